//! The timestamp that the bench's feed adds to a message: its send time, on the clock of the client pool.

/// Start of the timestamp, after the message's last member.
const TIMESTAMP: &[u8] = b",\"sent_ns\":";

/// Adds the timestamp to a JSON object that has members.
pub fn put(message: &mut Vec<u8>, sent_ns: u64) {
    debug_assert!(message.ends_with(b"}"), "a JSON object");
    message.pop();
    message.extend_from_slice(TIMESTAMP);
    message.extend_from_slice(sent_ns.to_string().as_bytes());
    message.push(b'}');
}

/// The timestamp of a message that ends with it, with or without an envelope or line break.
pub fn find(message: &[u8]) -> Option<u64> {
    let end = message.iter().rposition(|byte| !b"}\r\n".contains(byte))? + 1;
    let digits = message[..end].iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let start = end - digits;
    message[..start].ends_with(TIMESTAMP).then(|| number(&message[start..end])).flatten()
}

/// The first member `name` of a JSON object without white space, if it is a non-negative number.
///
/// In fanline's envelopes and server messages, members of the same name in inner objects are later.
pub fn member(message: &[u8], name: &str) -> Option<u64> {
    let key = format!("\"{name}\":");
    let at = message.windows(key.len()).position(|window| window == key.as_bytes())? + key.len();
    let digits = message[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    number(&message[at..at + digits])
}

/// None if there are no digits, or too many.
fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_found_where_it_was_put() {
        let mut message = br#"{"a":{"b":17}}"#.to_vec();
        assert_eq!(find(&message), None);
        put(&mut message, 123);
        assert_eq!(message, br#"{"a":{"b":17},"sent_ns":123}"#);
        assert_eq!(find(&message), Some(123));
        assert_eq!(find(&[br#"{"topic":"t","data":"#, &message[..], b"}"].concat()), Some(123));
        for other in
            [&b""[..], b"}", b"}}}", b"12", br#"{"a":1,"sent_ns":}"#, br#"{"a":1,"sent_ns":99999999999999999999}"#]
        {
            assert_eq!(find(other), None, "{}", String::from_utf8_lossy(other));
        }
    }

    #[test]
    fn a_member_is_the_first_of_its_name() {
        let message = br#"{"topic":"t","offset":12,"ts":9,"data":{"offset":99}}"#;
        assert_eq!((member(message, "offset"), member(message, "ts")), (Some(12), Some(9)));
        assert_eq!((member(message, "to"), member(message, "topic"), member(b"", "ts")), (None, None, None));
        assert_eq!(member(br#"{"ts":"#, "ts"), None);
    }
}
