//! The difference between JSON that is too deep and text that is not JSON.

use crate::json::LEVELS_MAX;

/// Whether a text that is not taken for JSON has more levels than are read. Counts only its brackets.
pub fn is_too_deep(text: &str) -> bool {
    let (mut levels, mut inside, mut escaped) = (0u32, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if inside => escaped = true,
            b'"' => inside = !inside,
            b'[' | b'{' if !inside => levels += 1,
            b']' | b'}' if !inside => levels = levels.saturating_sub(1),
            _ => {}
        }
        if levels > LEVELS_MAX {
            return true;
        }
    }
    false
}
