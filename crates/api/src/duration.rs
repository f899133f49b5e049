//! Durations as manifests have them: `24h`, `1h30m`, `90s`, `1.5h`, `2d`.

/// Whole seconds of a duration, rounded up; none: it is not one.
pub fn seconds(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut millis = 0_f64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let scale = match unit {
            "ms" => 1.0,
            "s" => 1e3,
            "m" => 60e3,
            "h" => 3600e3,
            "d" => 86_400e3,
            _ => return None,
        };
        millis += number.parse::<f64>().ok()? * scale;
        rest = tail;
    }
    let seconds = (millis / 1e3).ceil();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked right before")]
    (seconds.is_finite() && (0.0..1e15).contains(&seconds)).then_some(seconds as u64)
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn units_add_up() {
        assert_eq!(seconds("24h"), Some(86_400));
        assert_eq!(seconds("1h30m"), Some(5400));
        assert_eq!(seconds("1.5h"), Some(5400));
        assert_eq!(seconds("1500ms"), Some(2));
        assert_eq!(seconds("0s"), Some(0));
    }

    #[test]
    fn what_is_no_duration_is_none() {
        for text in ["", "h", "24", "1x", "-1h", "1h 5m"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
