//! HTTP: routes, answers, and the files of the page.

pub mod admin;
pub(crate) mod ahead;
pub(crate) mod answer;
pub(crate) mod assets;
pub(crate) mod body;
pub(crate) mod conditional;
pub(crate) mod context;
pub(crate) mod credentials;
pub(crate) mod health;
pub mod metrics;
pub mod origins;
pub(crate) mod pace;
pub(crate) mod pages;
pub(crate) mod poll;
pub(crate) mod query;
pub(crate) mod shared_answers;
pub mod terms;
pub(crate) mod topics;
