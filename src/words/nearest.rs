//! Distance between a valid name and a misspelt one, for "did you mean …?".
//!
//! A comparison costs the product of both lengths, and the text may be of any length: one far longer than the name is not
//! compared.

/// Edits (insert, delete, replace, swap) between the two. A text too long to be a misspelling of `name` has the
/// greatest distance.
pub fn distance(found: &str, name: &str) -> usize {
    // A character may take 4 bytes, and no name is so short that half of it as slack would matter.
    const SLACK_BYTES: usize = 32;
    if found.len() > 4 * name.len() + SLACK_BYTES {
        return usize::MAX;
    }
    strsim::damerau_levenshtein(found, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_any_length_is_compared_with_names_only() {
        assert_eq!(distance("slow.reply_max", "slow.replay_max"), 1);
        assert_eq!(distance(&"é".repeat(5), "every"), 5);
        assert_eq!(distance(&"x".repeat(1 << 24), "listen"), usize::MAX);
    }
}
