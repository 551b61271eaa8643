//! Every setting, as data: the one table, the kinds of values, and the typed sections that rooms take.
//!
//! The sources of values (file, variables, flags) are not known here: `config` reads them.

pub mod choices;
mod declaration;
pub mod filter;
pub mod kind;
pub mod list;
pub mod listener;
pub mod setting;
pub mod table;
pub mod trusted_proxies;
pub mod values;
