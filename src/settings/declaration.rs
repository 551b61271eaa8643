//! The form of the table of settings: one declaration makes the struct of a section, its default, and its rows.
//!
//! The word `reloaded` before the text says that a reload applies the setting. Names in the declaration are those of the
//! file that uses it, `settings/table.rs`.

macro_rules! settings {
    (@is_reloaded) => { false };
    (@is_reloaded reloaded) => { true };
    (
        $top_about:literal { $($top:ident : $top_type:ty = $top_preset:expr, $top_kind:expr, $($top_word:ident,)? $top_doc:literal;)* }
        $($(#[$attribute:meta])* $section:ident $Struct:ident $about:literal {
            $($field:ident : $type:ty = $preset:expr, $kind:expr, $($word:ident,)? $doc:literal;)*
        })*
    ) => {
        /// The effective configuration: every setting, typed and checked.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Config {
            $(#[doc = $top_doc] pub $top: $top_type,)*
            $(#[doc = $about] pub $section: $Struct,)*
        }

        $(
            #[doc = $about]
            $(#[$attribute])*
            #[derive(Clone, Debug, PartialEq)]
            pub struct $Struct {
                $(#[doc = $doc] pub $field: $type,)*
            }

            impl $Struct {
                fn from_values(values: &Values) -> $Struct {
                    $Struct { $($field: values.take(concat!(stringify!($section), ".", stringify!($field))),)* }
                }
            }

            impl Default for $Struct {
                /// The documented defaults.
                fn default() -> $Struct {
                    $Struct::from_values(&Values::defaults())
                }
            }
        )*

        pub static TABLE: &[SettingsSection] = &[
            SettingsSection { name: "", about: $top_about, settings: &[
                $(Setting {
                    name: stringify!($top),
                    kind: $top_kind,
                    preset: $top_preset,
                    is_reloaded: settings!(@is_reloaded $($top_word)?),
                    doc: $top_doc,
                },)*
            ] },
            $(SettingsSection { name: stringify!($section), about: $about, settings: &[
                $(Setting {
                    name: concat!(stringify!($section), ".", stringify!($field)),
                    kind: $kind,
                    preset: $preset,
                    is_reloaded: settings!(@is_reloaded $($word)?),
                    doc: $doc,
                },)*
            ] },)*
        ];

        impl Config {
            /// Moves values into their fields; the caller checks for conflicts.
            pub fn from_values(values: &Values) -> Config {
                Config {
                    $($top: values.take(stringify!($top)),)*
                    $($section: $Struct::from_values(values),)*
                }
            }
        }

        impl Default for Config {
            /// The documented defaults.
            fn default() -> Config {
                Config::from_values(&Values::defaults())
            }
        }
    };
}

pub(super) use settings;
