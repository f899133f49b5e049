//! A strict JSON reader (RFC 8259) that walks the bytes once and notes every key of every object.

use alloc::string::String;
use alloc::vec::Vec;

use crate::fault::Fault;
use crate::message::Limits;
use crate::text::Text;

/// Objects of up to so many keys are checked pair by pair as they are read, larger ones sorted at their end.
const PAIRWISE: usize = 16;
/// A number longer than this, in bytes, is refused; readers differ in what they make of it.
const LONGEST_NUMBER: usize = 1024;

/// Memory that readings share, so that a reading allocates nothing.
#[derive(Debug)]
pub struct Scratch {
    seed: u64,
    /// Hashes of the decoded keys of all open objects, innermost last.
    keys: Vec<u64>,
}

impl Scratch {
    /// `seed` goes into the hashes of keys. Equal hashes count as equal keys, so a caller who could foretell them
    /// could at most have its own request refused.
    pub fn new(seed: u64) -> Self {
        Self { seed, keys: Vec::new() }
    }
}

pub(crate) struct Reader<'a, 's> {
    text: &'a str,
    at: usize,
    keys_read: usize,
    limits: &'s Limits,
    scratch: &'s mut Scratch,
}

impl<'a, 's> Reader<'a, 's> {
    pub(crate) fn new(text: &'a str, limits: &'s Limits, scratch: &'s mut Scratch) -> Self {
        scratch.keys.clear();
        Self { text, at: 0, keys_read: 0, limits, scratch }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// What was read since `start`.
    pub(crate) fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn step(&mut self) {
        self.at = self.at.saturating_add(1);
    }

    pub(crate) fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.step();
        }
    }

    fn eat(&mut self, byte: u8) -> Result<(), Fault> {
        if self.peek() == Some(byte) {
            self.step();
            Ok(())
        } else {
            Err(Fault::JsonSyntax)
        }
    }

    /// Nothing but white space is left.
    pub(crate) fn end(&mut self) -> Result<(), Fault> {
        self.skip_space();
        if self.at == self.text.len() { Ok(()) } else { Err(Fault::JsonSyntax) }
    }

    /// An object at nesting `depth`; `member` reads each value.
    pub(crate) fn object(
        &mut self,
        depth: usize,
        mut member: impl FnMut(&mut Self, &Text<'a>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.eat(b'{')?;
        self.check_depth(depth)?;
        let first = self.scratch.keys.len();
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.step();
            return Ok(());
        }
        loop {
            let key = self.string()?;
            self.note_key(first, key.as_str())?;
            self.skip_space();
            self.eat(b':')?;
            self.skip_space();
            member(self, &key)?;
            self.skip_space();
            match self.peek() {
                Some(b',') => {
                    self.step();
                    self.skip_space();
                }
                Some(b'}') => {
                    self.step();
                    return self.close_object(first);
                }
                _ => return Err(Fault::JsonSyntax),
            }
        }
    }

    /// An array at nesting `depth`; `element` reads each value.
    pub(crate) fn array(
        &mut self,
        depth: usize,
        mut element: impl FnMut(&mut Self) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.eat(b'[')?;
        self.check_depth(depth)?;
        self.skip_space();
        if self.peek() == Some(b']') {
            self.step();
            return Ok(());
        }
        loop {
            element(self)?;
            self.skip_space();
            match self.peek() {
                Some(b',') => {
                    self.step();
                    self.skip_space();
                }
                Some(b']') => {
                    self.step();
                    return Ok(());
                }
                _ => return Err(Fault::JsonSyntax),
            }
        }
    }

    /// Any value; `depth` is the nesting it would have as a container.
    pub(crate) fn skip(&mut self, depth: usize) -> Result<(), Fault> {
        match self.peek() {
            Some(b'{') => self.object(depth, |reader, _| reader.skip(depth.saturating_add(1))),
            Some(b'[') => self.array(depth, |reader| reader.skip(depth.saturating_add(1))),
            Some(b'"') => self.raw_string().map(|_| ()),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => self.number().map(|_| ()),
        }
    }

    fn word(&mut self, word: &str) -> Result<(), Fault> {
        let end = self.at.saturating_add(word.len());
        if self.text.get(self.at..end) == Some(word) {
            self.at = end;
            Ok(())
        } else {
            Err(Fault::JsonSyntax)
        }
    }

    fn check_depth(&self, depth: usize) -> Result<(), Fault> {
        if depth > self.limits.max_depth { Err(Fault::TooDeep) } else { Ok(()) }
    }

    fn note_key(&mut self, first: usize, key: &str) -> Result<(), Fault> {
        self.keys_read = self.keys_read.saturating_add(1);
        if self.keys_read > self.limits.max_keys {
            return Err(Fault::TooManyKeys);
        }
        let hash = key.bytes().fold(self.scratch.seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let open = self.scratch.keys.get(first..).unwrap_or_default();
        if open.len() < PAIRWISE && open.contains(&hash) {
            return Err(Fault::DuplicateKey);
        }
        self.scratch.keys.push(hash);
        Ok(())
    }

    fn close_object(&mut self, first: usize) -> Result<(), Fault> {
        let keys = self.scratch.keys.get_mut(first..).unwrap_or_default();
        if keys.len() > PAIRWISE {
            keys.sort_unstable();
            if keys.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
                return Err(Fault::DuplicateKey);
            }
        }
        self.scratch.keys.truncate(first);
        Ok(())
    }

    /// A string's value.
    pub(crate) fn string(&mut self) -> Result<Text<'a>, Fault> {
        let (raw, escaped) = self.raw_string()?;
        if escaped { decode(raw).map(Text::Decoded) } else { Ok(Text::Plain(raw)) }
    }

    /// A string's bytes between the quotes, and whether they contain escapes, which are checked.
    fn raw_string(&mut self) -> Result<(&'a str, bool), Fault> {
        self.eat(b'"')?;
        let start = self.at;
        let mut escaped = false;
        loop {
            let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
            let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
            self.at = self.at.saturating_add(plain.ok_or(Fault::JsonSyntax)?);
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.step();
                    self.step();
                }
                Some(_) | None => return Err(Fault::JsonSyntax),
            }
        }
        let raw = self.since(start);
        self.step();
        if raw.len() > self.limits.max_string {
            return Err(Fault::StringTooLong);
        }
        if escaped {
            unescape(raw, |_| ())?;
        }
        Ok((raw, escaped))
    }

    /// A number's text; whether it is an integer.
    pub(crate) fn number(&mut self) -> Result<(&'a str, bool), Fault> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.step();
        }
        match self.peek() {
            Some(b'0') => self.step(),
            Some(b'1'..=b'9') => self.digits()?,
            _ => return Err(Fault::JsonSyntax),
        }
        let mut integer = true;
        if self.peek() == Some(b'.') {
            integer = false;
            self.step();
            self.digits()?;
        }
        let mut scaled = false;
        if matches!(self.peek(), Some(b'e' | b'E')) {
            (integer, scaled) = (false, true);
            self.step();
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.step();
            }
            self.digits()?;
        }
        let number = self.since(start);
        let readable = number.len() <= LONGEST_NUMBER
            && (!(scaled || number.len() > 300) || number.parse().is_ok_and(f64::is_finite));
        if readable { Ok((number, integer)) } else { Err(Fault::NumberRange) }
    }

    fn digits(&mut self) -> Result<(), Fault> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.step();
        }
        if self.at > start { Ok(()) } else { Err(Fault::JsonSyntax) }
    }
}

fn decode(raw: &str) -> Result<String, Fault> {
    let mut text = String::with_capacity(raw.len());
    unescape(raw, |c| text.push(c))?;
    Ok(text)
}

/// Hands on each character of a string's raw content.
fn unescape(raw: &str, mut put: impl FnMut(char)) -> Result<(), Fault> {
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            put(c);
            continue;
        }
        put(match chars.next() {
            Some(c @ ('"' | '\\' | '/')) => c,
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => match unit(&mut chars)? {
                high @ 0xd800..0xdc00 => {
                    if (chars.next(), chars.next()) != (Some('\\'), Some('u')) {
                        return Err(Fault::LoneSurrogate);
                    }
                    let low = unit(&mut chars)?;
                    match char::decode_utf16([high, low]).next() {
                        Some(Ok(c)) => c,
                        _ => return Err(Fault::LoneSurrogate),
                    }
                }
                unit => char::from_u32(u32::from(unit)).ok_or(Fault::LoneSurrogate)?,
            },
            _ => return Err(Fault::JsonSyntax),
        });
    }
    Ok(())
}

fn unit(chars: &mut core::str::Chars<'_>) -> Result<u16, Fault> {
    let mut unit = 0_u32;
    for _ in 0..4 {
        let digit = chars.next().and_then(|c| c.to_digit(16)).ok_or(Fault::JsonSyntax)?;
        unit = unit.wrapping_mul(16).wrapping_add(digit);
    }
    u16::try_from(unit).map_err(|_| Fault::JsonSyntax)
}
