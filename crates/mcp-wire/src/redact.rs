//! JSON text with the values at some places replaced, within a bound.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use crate::fault::Fault;
use crate::fold::may_be_read_as;
use crate::json::{Reader, Scratch};
use crate::message::Limits;

/// What stands in place of a value, as JSON text.
pub const REDACTED: &str = "\"[redacted]\"";
/// Most pointers: each has a bit.
const MOST: usize = 64;

/// Places in a JSON document: JSON pointers (RFC 6901) in which a part `*` stands for any key or index.
///
/// A key is also found in spellings that a lax reader may take for it: other case, full-width letters, invisible
/// characters. The empty pointer, the whole document, is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pointers(Vec<Vec<Part>>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Any,
    Key { name: String, index: Option<usize> },
}

/// One step from a container to what it holds.
#[derive(Clone, Copy)]
enum Step<'k> {
    Key(&'k str),
    Index(usize),
}

/// Why there is no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// It is longer than it may be.
    TooLong,
    /// It is not JSON that a strict reader takes.
    Unreadable,
}

impl Pointers {
    /// Reads pointers; none: one of them is none, or they are more than 64.
    pub fn parse<S: AsRef<str>>(pointers: &[S]) -> Option<Self> {
        let parsed = pointers.iter().map(|pointer| parts(pointer.as_ref()));
        (pointers.len() <= MOST).then(|| parsed.collect::<Option<_>>().map(Self)).flatten()
    }

    /// Of the pointers of set `open`, of which `depth` parts were followed: whether one ends with this step, and which go on.
    fn follow(&self, open: u64, depth: usize, step: Step<'_>) -> (bool, u64) {
        let (mut ends, mut on) = (false, 0_u64);
        for (bit, parts) in self.0.iter().enumerate() {
            let mask = u32::try_from(bit).ok().and_then(|bit| 1_u64.checked_shl(bit)).unwrap_or(0);
            let matches = open & mask != 0 && parts.get(depth).is_some_and(|part| part.matches(step));
            if matches && parts.len() == depth.saturating_add(1) {
                ends = true;
            } else if matches {
                on |= mask;
            }
        }
        (ends, on)
    }
}

impl Part {
    fn new(raw: &str) -> Option<Self> {
        if raw == "*" {
            return Some(Self::Any);
        }
        let mut rest = raw.split('~');
        let mut name = String::from(rest.next()?);
        for escaped in rest {
            let mut chars = escaped.chars();
            name.push(match chars.next()? {
                '0' => '~',
                '1' => '/',
                _ => return None,
            });
            name.push_str(chars.as_str());
        }
        let index = name.parse().ok();
        Some(Self::Key { name, index })
    }

    fn matches(&self, step: Step<'_>) -> bool {
        match (self, step) {
            (Self::Any, _) => true,
            (Self::Key { name, .. }, Step::Key(key)) => may_be_read_as(key, name),
            (Self::Key { index, .. }, Step::Index(at)) => *index == Some(at),
        }
    }
}

fn parts(pointer: &str) -> Option<Vec<Part>> {
    pointer.strip_prefix('/')?.split('/').map(Part::new).collect()
}

/// `json` with the value at each pointer replaced by [`REDACTED`], everything else byte for byte.
///
/// # Errors
/// It would have more than `max_bytes`, or `json` cannot be read; memory is never taken beyond `max_bytes`.
pub fn redact<'j>(
    json: &'j str,
    pointers: &Pointers,
    max_bytes: usize,
    scratch: &mut Scratch,
) -> Result<Cow<'j, str>, Withheld> {
    let limits = Limits::default();
    let mut reader = Reader::new(json, &limits, scratch);
    let mut copy = Copy { json, pointers, out: String::new(), taken: 0, max_bytes };
    let walked = copy.value(&mut reader, 0, u64::MAX).and_then(|()| reader.end());
    match walked {
        Ok(()) => copy.finish(),
        Err(Fault::BodyTooLarge) => Err(Withheld::TooLong),
        Err(_) => Err(Withheld::Unreadable),
    }
}

struct Copy<'j, 'p> {
    json: &'j str,
    pointers: &'p Pointers,
    out: String,
    /// So much of `json` is in `out`, or is replaced there.
    taken: usize,
    max_bytes: usize,
}

impl<'j> Copy<'j, '_> {
    /// A value `depth` steps from the root, where the pointers of set `open` have come so far.
    fn value(&mut self, reader: &mut Reader<'j, '_>, depth: usize, open: u64) -> Result<(), Fault> {
        let nesting = depth.saturating_add(1);
        match reader.peek() {
            Some(b'{') if open != 0 => reader
                .object(nesting, |reader, key| self.member(reader, depth, open, Step::Key(key.as_str()))),
            Some(b'[') if open != 0 => {
                let mut next = 0_usize;
                reader.array(nesting, |reader| {
                    let step = Step::Index(next);
                    next = next.saturating_add(1);
                    self.member(reader, depth, open, step)
                })
            }
            _ => reader.skip(nesting),
        }
    }

    fn member(
        &mut self,
        reader: &mut Reader<'j, '_>,
        depth: usize,
        open: u64,
        step: Step<'_>,
    ) -> Result<(), Fault> {
        let (ends, on) = self.pointers.follow(open, depth, step);
        let depth = depth.saturating_add(1);
        if !ends {
            return self.value(reader, depth, on);
        }
        let start = reader.at();
        reader.skip(depth.saturating_add(1))?;
        self.put(self.json.get(self.taken..start).unwrap_or_default())?;
        self.put(REDACTED)?;
        self.taken = reader.at();
        Ok(())
    }

    fn put(&mut self, part: &str) -> Result<(), Fault> {
        if self.out.len().saturating_add(part.len()) > self.max_bytes {
            return Err(Fault::BodyTooLarge);
        }
        self.out.push_str(part);
        Ok(())
    }

    fn finish(mut self) -> Result<Cow<'j, str>, Withheld> {
        if self.taken == 0 {
            return if self.json.len() > self.max_bytes {
                Err(Withheld::TooLong)
            } else {
                Ok(Cow::Borrowed(self.json))
            };
        }
        let rest = self.json.get(self.taken..).unwrap_or_default();
        self.put(rest).map_err(|_| Withheld::TooLong)?;
        Ok(Cow::Owned(self.out))
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    fn redacted(json: &str, pointers: &[&str], max_bytes: usize) -> Result<String, Withheld> {
        let pointers = Pointers::parse(pointers).unwrap();
        redact(json, &pointers, max_bytes, &mut Scratch::new(7)).map(Cow::into_owned)
    }

    #[test]
    fn values_at_pointers_are_replaced_and_all_else_stays_byte_for_byte() {
        let json = r#"{ "card": {"number" : "4111", "year":1e2}, "items":[ {"token":[1,{"a":2}]}, 7,{"token":null,"n":1.50} ] }"#;
        let expected = r#"{ "card": {"number" : "[redacted]", "year":1e2}, "items":[ {"token":"[redacted]"}, 7,{"token":"[redacted]","n":1.50} ] }"#;
        assert_eq!(redacted(json, &["/card/number", "/items/*/token"], 1000).unwrap(), expected);
        assert_eq!(redacted(json, &["/nothing", "/items/9", "/card/number/x"], 1000).unwrap(), json);
        assert_eq!(redacted("[1,[2,3]]", &["/0", "/1/1"], 99).unwrap(), r#"["[redacted]",[2,"[redacted]"]]"#);
        assert_eq!(redacted(r#"{"0":1,"*":2}"#, &["/0"], 99).unwrap(), r#"{"0":"[redacted]","*":2}"#);
        assert_eq!(redacted(r#"{"a":{"b":1}}"#, &["/*", "/a/b"], 99).unwrap(), r#"{"a":"[redacted]"}"#);
    }

    #[test]
    fn keys_are_found_however_they_are_spelled() {
        for key in ["a/b~c", r"a\u002fb~c", "A/B~C", "a/\u{200b}b~c", "\u{ff41}/b~c"] {
            let json = format!("{{\"{key}\":1}}");
            let found = redacted(&json, &["/a~1b~0c"], 99).unwrap();
            assert!(found.ends_with(":\"[redacted]\"}"), "{found}");
        }
        let other = "{\"n\u{e4}me\":1}";
        assert_eq!(redacted(other, &["/n\u{f6}me"], 99).unwrap(), other);
        assert_ne!(redacted(other, &["/N\u{c4}me"], 99).unwrap(), other);
    }

    #[test]
    fn what_would_be_too_long_is_withheld_whole() {
        let json = r#"{"a":"123456789012345","b":"x"}"#;
        assert_eq!(redacted(json, &["/a"], json.len() - 4).unwrap(), r#"{"a":"[redacted]","b":"x"}"#);
        assert_eq!(redacted(json, &["/a"], json.len() - 6), Err(Withheld::TooLong));
        assert_eq!(redacted(json, &["/a"], 3), Err(Withheld::TooLong));
        assert_eq!(redacted(json, &["/c"], json.len() - 1), Err(Withheld::TooLong));
        assert_eq!(redacted(json, &["/c"], json.len()).unwrap(), json);
    }

    #[test]
    fn what_cannot_be_read_is_withheld() {
        for json in ["", "{", r#"{"a":1}}"#, r#"{"a":1,"a":2}"#, "[1,]"] {
            assert_eq!(redacted(json, &["/a"], 99), Err(Withheld::Unreadable), "{json}");
        }
        let deep = "[".repeat(70) + &"]".repeat(70);
        assert_eq!(redacted(&deep, &["/0/0"], 999), Err(Withheld::Unreadable));
    }

    #[test]
    fn a_text_that_is_no_pointer_is_refused() {
        for pointer in ["", "a", "/a~", "/a~2", "/~"] {
            assert_eq!(Pointers::parse(&[pointer]), None, "{pointer}");
        }
        let many: Vec<String> = (0..65).map(|n| format!("/{n}")).collect();
        assert_eq!(Pointers::parse(&many), None);
        assert!(Pointers::parse(many.get(..64).unwrap()).is_some());
    }
}
