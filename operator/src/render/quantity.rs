//! Kubernetes quantities, as far as they are compared.

/// A thousand-millionth of the unit is the smallest amount that Kubernetes keeps.
const NANO: i128 = 1_000_000_000;

/// The amount in thousand-millionths; none: it is no quantity of zero or more.
pub(super) fn parse(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || number.len() > 30 {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let (factor, divisor) = scale(suffix)?;
    let divisor = divisor.checked_mul(10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?)?;
    // Up to the next thousand-millionth, as Kubernetes rounds.
    Some(digits.checked_mul(factor)?.checked_add(divisor - 1)? / divisor)
}

/// What a number with this suffix is multiplied with, and divided by, to give thousand-millionths.
fn scale(suffix: &str) -> Option<(i128, i128)> {
    let times = |power: u32| Some((10_i128.pow(power), 1));
    let binary = |power: u32| Some((NANO.checked_mul(1024_i128.pow(power))?, 1));
    match suffix {
        "n" => times(0),
        "u" => times(3),
        "m" => times(6),
        "" => times(9),
        "k" => times(12),
        "M" => times(15),
        "G" => times(18),
        "T" => times(21),
        "P" => times(24),
        "E" => times(27),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        exponent => {
            let exponent: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 9 + exponent;
            let factor = 10_i128.checked_pow(power.unsigned_abs())?;
            Some(if power >= 0 { (factor, 1) } else { (1, factor) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (text, nano) in [
            ("1", NANO),
            ("0", 0),
            ("100m", NANO / 10),
            ("0.5", NANO / 2),
            (".5", NANO / 2),
            ("1.", NANO),
            ("1k", 1000 * NANO),
            ("1Ki", 1024 * NANO),
            ("1.5Gi", 3 * 512 * 1024 * 1024 * NANO),
            ("1e3", 1000 * NANO),
            ("5E", 5 * 10_i128.pow(18) * NANO),
            ("12e-1", 12 * NANO / 10),
            ("1n", 1),
            ("0.1n", 1),
        ] {
            assert_eq!(parse(text), Some(nano), "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_is_none() {
        for text in [
            "",
            "abc",
            "1.2.3",
            "-1",
            "+1",
            "1 ",
            "1mi",
            "1KI",
            "1e",
            "1e99",
            "Ki",
            ".",
            "9999999999999999999999999999999",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
