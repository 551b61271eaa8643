//! An object that arrives in parts: a new member replaces the member of that name.
//!
//! This is RFC 7396 for one level: `null` removes the member, and a member that is an object itself is replaced as a
//! whole. Members are kept as received, in the order of their first arrival.

use crate::json::{FoundElement, Type, decode_string, list_parts};

use crate::intake::assemble::fold::Unfit;

/// 1024 members: the widest object in 11 recorded feeds has 23.
const MEMBERS_MAX: usize = 1024;

#[derive(Clone, Debug, Default)]
pub(super) struct MergedObject {
    members: Vec<ObjectMember>,
}

#[derive(Clone, Debug)]
struct ObjectMember {
    /// The key's token, with its quotes.
    key: Box<str>,
    value: Box<str>,
}

impl MergedObject {
    /// The object of a snapshot; a member that is `null` in it stays `null`.
    pub(super) fn begin(token: &str, parts: &mut Vec<FoundElement>) -> Result<MergedObject, Unfit> {
        let mut object = MergedObject::default();
        object.take(token, parts, false)?;
        Ok(object)
    }

    /// Takes the members of a delta. After an error it holds only some of them.
    pub(super) fn merge(&mut self, token: &str, parts: &mut Vec<FoundElement>) -> Result<(), Unfit> {
        self.take(token, parts, true)
    }

    fn take(&mut self, token: &str, parts: &mut Vec<FoundElement>, null_removes: bool) -> Result<(), Unfit> {
        if Type::of(token) != Type::Object {
            return Err(Unfit::at("", "merge.at", "an object", Some(token)));
        }
        for part in list_parts(token, parts) {
            let parts = part.key.clone().and_then(|key| Some((token.get(key)?, token.get(part.range.clone())?)));
            let (key, value) = parts.ok_or_else(|| Unfit::at("", "merge.at", "an object", Some(token)))?;
            let known = self.members.iter().position(|member| same_key(&member.key, key));
            match (known, null_removes && Type::of(value) == Type::Null) {
                (Some(place), true) => {
                    self.members.remove(place);
                }
                (None, true) => {}
                (Some(place), false) => self.members[place].value = value.into(),
                (None, false) if self.members.len() >= MEMBERS_MAX => return Err(Unfit::TooLarge),
                (None, false) => self.members.push(ObjectMember { key: key.into(), value: value.into() }),
            }
        }
        Ok(())
    }

    pub(super) fn render(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        for (place, member) in self.members.iter().enumerate() {
            if place > 0 {
                out.push(b',');
            }
            out.extend_from_slice(member.key.as_bytes());
            out.push(b':');
            out.extend_from_slice(member.value.as_bytes());
        }
        out.push(b'}');
    }

    /// The value of this member, as received.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let named = |member: &&ObjectMember| decode_string(&member.key).is_some_and(|key| key == name);
        self.members.iter().find(named).map(|member| &*member.value)
    }

    pub(super) fn bytes(&self) -> usize {
        self.members.iter().map(|member| member.key.len() + member.value.len() + size_of::<ObjectMember>()).sum()
    }
}

fn same_key(left: &str, right: &str) -> bool {
    left == right || (left.contains('\\') || right.contains('\\')) && decode_string(left) == decode_string(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(objects: &[&str]) -> Result<String, Unfit> {
        let mut parts = Vec::new();
        let mut object = MergedObject::begin(objects[0], &mut parts)?;
        for token in &objects[1..] {
            object.merge(token, &mut parts)?;
        }
        let mut out = Vec::new();
        object.render(&mut out);
        Ok(String::from_utf8(out).expect("text"))
    }

    #[test]
    fn a_member_replaces_the_member_of_its_name() {
        for (objects, expected) in [
            (vec![r#"{ "a" : 1.50, "b":{"x":1,"y":2} }"#], r#"{"a":1.50,"b":{"x":1,"y":2}}"#),
            (vec![r#"{"a":1,"b":2}"#, r#"{"b":"3","c":[4]}"#], r#"{"a":1,"b":"3","c":[4]}"#),
            (vec![r#"{"a":1,"b":{"x":1}}"#, r#"{"b":{"y":2}}"#], r#"{"a":1,"b":{"y":2}}"#),
            (vec![r#"{"a":1,"b":2}"#, r#"{"a":null,"z":null}"#], r#"{"b":2}"#),
            (vec![r#"{"key":1}"#, r#"{"k\u0065y":2}"#], r#"{"key":2}"#),
            (vec![r#"{"a":null}"#, "{}"], r#"{"a":null}"#),
            (vec!["{}", "{}"], "{}"),
        ] {
            assert_eq!(merged(&objects).as_deref(), Ok(expected), "{objects:?}");
        }
    }

    #[test]
    fn what_is_no_object_or_too_wide_is_refused() {
        for token in ["[1]", "1", "\"{}\"", "null"] {
            assert_eq!(merged(&[token]), Err(Unfit::at("", "merge.at", "an object", Some(token))), "{token}");
        }
        let wide = |count: usize| {
            let members: Vec<String> = (0..count).map(|n| format!("\"{n}\":{n}")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert!(merged(&[&wide(MEMBERS_MAX)]).is_ok());
        assert_eq!(merged(&[&wide(MEMBERS_MAX + 1)]), Err(Unfit::TooLarge));
    }
}
