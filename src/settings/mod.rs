//! Floor 3: every setting, as data. The one table, what a value may be, and the typed sections that rooms take.
//!
//! Where values come from (file, variables, flags) is not known here: that is `config`.

pub mod filter;
pub mod kind;
pub mod list;
pub mod setting;
pub mod table;
pub mod values;
