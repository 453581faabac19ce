//! Words of others, fit for a terminal.

/// A text that somebody else chose, without what would steer the terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '?' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        assert_eq!(printable("\u{1b}[2Jx\u{9b}y"), "?[2Jx?y");
    }
}
