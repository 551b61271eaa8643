//! JSON read with suspicion: a member that occurs twice is refused, because two readers may take different ones.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Which names are the same member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameName {
    /// Names of the same bytes.
    Exact,
    /// Also names that differ only in case: some readers do not distinguish them.
    AnyCase,
}

/// One whole JSON value; none if the text is anything else, too deep, or repeats a member.
pub fn read_strict(text: &str, same: SameName) -> Option<Value> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = StrictValue(same).deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    Some(value)
}

#[derive(Clone, Copy)]
struct StrictValue(SameName);

impl<'de> DeserializeSeed<'de> for StrictValue {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for StrictValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without repeated members")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, on: bool) -> Result<Value, E> {
        Ok(Value::Bool(on))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        Number::from_f64(number).map(Value::Number).ok_or_else(|| E::custom("a number out of range"))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut read = Vec::new();
        while let Some(element) = elements.next_element_seed(self)? {
            read.push(element);
        }
        Ok(Value::Array(read))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let (mut read, mut names) = (Map::new(), std::collections::HashSet::new());
        while let Some(name) = members.next_key::<String>()? {
            let compared = match self.0 {
                SameName::Exact => name.clone(),
                SameName::AnyCase => name.to_lowercase(),
            };
            if !names.insert(compared) {
                return Err(A::Error::custom("a repeated member"));
            }
            read.insert(name, members.next_value_seed(self)?);
        }
        Ok(Value::Object(read))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_occurs_twice_is_refused_at_any_level() {
        for (text, exact, any_case) in [
            (r#"{"a":1,"b":[{"c":null,"d":"x"},true,-1.5]}"#, true, true),
            (r#"{"a":1,"a":1}"#, false, false),
            (r#"[{"x":{"a":1,"a":2}}]"#, false, false),
            (r#"{"a":1,"\u0061":2}"#, false, false),
            (r#"{"a":1,"A":2}"#, true, false),
            (r#"{"a":1} "#, true, true),
            (r#"{"a":1}{"#, false, false),
            (r#"{"a":1e400}"#, false, false),
            ("", false, false),
        ] {
            assert_eq!(read_strict(text, SameName::Exact).is_some(), exact, "{text}");
            assert_eq!(read_strict(text, SameName::AnyCase).is_some(), any_case, "{text}");
            if exact {
                assert_eq!(read_strict(text, SameName::Exact), serde_json::from_str(text).ok(), "{text}");
            }
        }
        assert_eq!(read_strict(&"[".repeat(100_000), SameName::Exact), None);
    }
}
