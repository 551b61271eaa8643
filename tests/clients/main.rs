//! Clients: those of this repository, the page, and those of others.

mod javascript;
mod page;
mod python;
mod stock;
