//! Messages read in place: fields borrowed from the bytes.
//!
//! Whoever passes events on has their bytes, and needs a few fields or writes all of them elsewhere; a message of owned
//! strings would be made and thrown away for it.

use prost::encoding::{DecodeContext, WireType, decode_varint, skip_field};

use crate::v1::{AuditEvent, Phase};

/// The bytes are not the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewError(&'static str);

impl core::fmt::Display for ViewError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str(self.0)
    }
}

impl core::error::Error for ViewError {}

const BROKEN: ViewError = ViewError("its fields cannot be told apart");
const ANOTHER_TYPE: ViewError = ViewError("a field has another type");
const NO_TEXT: ViewError = ViewError("a text is not UTF-8");

/// A number of one byte or two, as nearly all lengths and keys are, or a longer one.
#[inline]
fn varint(rest: &mut &[u8]) -> Result<u64, ViewError> {
    match **rest {
        [first, ..] if first < 0x80 => {
            *rest = rest.split_at_checked(1).ok_or(BROKEN)?.1;
            Ok(first.into())
        }
        [first, second, ..] if second < 0x80 => {
            *rest = rest.split_at_checked(2).ok_or(BROKEN)?.1;
            Ok(u64::from(first & 0x7f) | u64::from(second) << 7)
        }
        _ => decode_varint(rest).map_err(|_| BROKEN),
    }
}

/// Number and type of the next field.
#[inline]
fn key(rest: &mut &[u8]) -> Result<(u32, WireType), ViewError> {
    let key = u32::try_from(varint(rest)?).map_err(|_| BROKEN)?;
    let wire_type = WireType::try_from(u64::from(key & 7)).map_err(|_| BROKEN)?;
    // No field has the number 0.
    if key < 8 { Err(BROKEN) } else { Ok((key >> 3, wire_type)) }
}

/// A field's value as it stands on the wire.
enum Value<'a> {
    Number(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    #[inline]
    fn read(wire_type: WireType, rest: &mut &'a [u8]) -> Result<Self, ViewError> {
        match wire_type {
            WireType::Varint => varint(rest).map(Self::Number),
            WireType::LengthDelimited => {
                let length = varint(rest)?;
                let length = usize::try_from(length).map_err(|_| BROKEN)?;
                let (value, after) = rest.split_at_checked(length).ok_or(BROKEN)?;
                *rest = after;
                Ok(Self::Bytes(value))
            }
            WireType::SixtyFourBit => {
                let (value, after) = rest.split_first_chunk().ok_or(BROKEN)?;
                *rest = after;
                Ok(Self::Fixed(u64::from_le_bytes(*value)))
            }
            WireType::ThirtyTwoBit | WireType::StartGroup | WireType::EndGroup => Err(ANOTHER_TYPE),
        }
    }

    fn number(self) -> Result<u64, ViewError> {
        match self {
            Self::Number(number) => Ok(number),
            Self::Fixed(_) | Self::Bytes(_) => Err(ANOTHER_TYPE),
        }
    }

    fn bytes(self) -> Result<&'a [u8], ViewError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Number(_) | Self::Fixed(_) => Err(ANOTHER_TYPE),
        }
    }
}

/// How a field is read from the wire.
trait Field<'a>: Sized {
    fn read(value: Value<'a>) -> Result<Self, ViewError>;
}

impl<'a> Field<'a> for &'a str {
    fn read(value: Value<'a>) -> Result<Self, ViewError> {
        core::str::from_utf8(value.bytes()?).map_err(|_| NO_TEXT)
    }
}

impl<'a> Field<'a> for &'a [u8] {
    fn read(value: Value<'a>) -> Result<Self, ViewError> {
        value.bytes()
    }
}

/// Numbers as protobuf has them: a longer one loses its upper bits.
macro_rules! numbers {
    ($($number:ty: $read:expr;)*) => {$(
        impl Field<'_> for $number {
            fn read(value: Value<'_>) -> Result<Self, ViewError> {
                value.number().map($read)
            }
        }
    )*};
}

numbers! {
    u64: |number| number;
    u32: |number| u32::try_from(number & u64::from(u32::MAX)).unwrap_or(0);
    i32: |number| u32::try_from(number & u64::from(u32::MAX)).unwrap_or(0).cast_signed();
    bool: |number| number != 0;
}

/// A number of eight bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fixed64(pub u64);

impl Field<'_> for Fixed64 {
    fn read(value: Value<'_>) -> Result<Self, ViewError> {
        match value {
            Value::Fixed(number) => Ok(Self(number)),
            Value::Number(_) | Value::Bytes(_) => Err(ANOTHER_TYPE),
        }
    }
}

macro_rules! view {
    ($(#[$doc:meta])* $view:ident { $($tag:literal $field:ident: $kind:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the .proto file documents the fields")]
        pub struct $view<'a> {
            $(pub $field: $kind,)*
        }

        impl<'a> $view<'a> {
            /// Reads exactly those bytes that the message is read from; fields of newer versions are passed over.
            ///
            /// # Errors
            /// They are not the message.
            pub fn read(bytes: &'a [u8]) -> Result<Self, ViewError> {
                let (mut view, mut rest) = (Self::default(), bytes);
                while !rest.is_empty() {
                    let (tag, wire_type) = key(&mut rest)?;
                    match tag {
                        $($tag => view.$field = Field::read(Value::read(wire_type, &mut rest)?)?,)*
                        _ => skip_field(wire_type, tag, &mut rest, DecodeContext::default()).map_err(|_| BROKEN)?,
                    }
                }
                Ok(view)
            }
        }
    };
}

view! {
    /// An [`AuditEvent`].
    EventView {
        1 seq: u64,
        2 prev_hash: &'a [u8],
        3 phase: i32,
        4 time_unix_nanos: u64,
        5 event_id: &'a [u8],
        6 decision_seq: u64,
        7 dropped_before: u64,
        10 server: &'a str,
        11 namespace: &'a str,
        12 team_id: &'a str,
        13 cluster: &'a str,
        14 rollout_track: &'a str,
        20 human_id: &'a str,
        21 agent_id: &'a str,
        22 subject_team_id: &'a str,
        23 session_id: &'a str,
        30 http_method: &'a str,
        31 path: &'a str,
        32 rpc_method: &'a str,
        33 tool_name: &'a str,
        34 target: &'a str,
        35 rpc_id: &'a str,
        36 era: &'a str,
        37 protocol_version: &'a str,
        38 arguments_digest: &'a [u8],
        39 trace_id: &'a str,
        40 mcp_session_id: &'a str,
        41 arguments: &'a [u8],
        50 allowed: bool,
        51 reason: &'a str,
        52 would_deny: &'a str,
        53 policy_version: &'a str,
        54 required_trust: &'a str,
        55 admin_trust: &'a str,
        56 consented_trust: &'a str,
        57 effective_trust: &'a str,
        58 required_side_effect: &'a str,
        59 risk_level: &'a str,
        60 matched_grant: &'a str,
        61 matched_session: &'a str,
        70 status: u32,
        71 latency_micros: u64,
        72 bytes_in: u64,
        73 bytes_out: u64,
        74 cut: bool,
        80 source: &'a str,
        81 event_type: &'a str,
        82 payload: &'a [u8],
    }
}

view! {
    /// An [`EventRecord`](crate::v1::EventRecord); its finding is a `FoundProblem`, encoded.
    RecordView {
        1 proxy: &'a str,
        2 worker: u32,
        3 epoch: Fixed64,
        4 event: &'a [u8],
        5 hash: &'a [u8],
        6 finding: &'a [u8],
    }
}

macro_rules! borrowed {
    (numbers: $($number:ident)*; bytes: $($bytes:ident)*;) => {
        impl<'a> From<&'a AuditEvent> for EventView<'a> {
            fn from(event: &'a AuditEvent) -> Self {
                // Whole, so that a field that is added there is not forgotten here.
                let AuditEvent { $($number,)* $($bytes,)* } = event;
                Self { $($number: *$number,)* $($bytes,)* }
            }
        }
    };
}

borrowed! {
    numbers:
        seq phase time_unix_nanos decision_seq dropped_before allowed status latency_micros bytes_in bytes_out
        cut;
    bytes:
        prev_hash event_id server namespace team_id cluster rollout_track human_id agent_id subject_team_id
        session_id http_method path rpc_method tool_name target rpc_id era protocol_version arguments_digest
        trace_id mcp_session_id arguments reason would_deny policy_version required_trust admin_trust
        consented_trust effective_trust required_side_effect risk_level matched_grant matched_session source
        event_type payload;
}

impl EventView<'_> {
    /// Which part of an exchange it tells.
    pub fn phase(&self) -> Phase {
        Phase::try_from(self.phase).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec::Vec;

    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::v1::{EventRecord, FoundProblem};

    /// A field as a writer may put it: of any tag, some of them known, and of any type.
    fn field() -> impl Strategy<Value = Vec<u8>> {
        let key =
            (prop_oneof![0_u32..90, Just(4000_u32)], 0_u32..6).prop_map(|(tag, wire)| (tag << 3) | wire);
        let value = prop_oneof![
                any::<[u8; 8]>().prop_map(Vec::from),
                any::<u64>().prop_map(|number| {
                    let mut bytes = Vec::new();
                    prost::encoding::encode_varint(number, &mut bytes);
                    bytes
                }),
                ".{0,6}".prop_map(
                    |text: String| [&[u8::try_from(text.len()).unwrap_or(0)], text.as_bytes()].concat()
                ),
                Just(Vec::new()),
            ];
        (key, value).prop_map(|(key, value)| {
            let mut bytes = Vec::new();
            prost::encoding::encode_varint(key.into(), &mut bytes);
            bytes.extend(value);
            bytes
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        #[test]
        fn it_reads_what_the_message_reads_and_nothing_else(fields in proptest::collection::vec(field(), 0..4)) {
            let bytes = fields.concat();
            match AuditEvent::decode(bytes.as_slice()) {
                Ok(event) => prop_assert_eq!(EventView::read(&bytes), Ok(EventView::from(&event))),
                Err(_) => prop_assert!(EventView::read(&bytes).is_err()),
            }
        }

        #[test]
        fn every_field_is_its_own(tag in 1_u32..90, number in 1..u64::MAX) {
            // One field of each kind that a tag may have; the message keeps it where it stood, or passes it over.
            for (wire, value) in [(0, number), (2, 0)] {
                let mut bytes = Vec::new();
                prost::encoding::encode_varint(u64::from((tag << 3) | wire), &mut bytes);
                prost::encoding::encode_varint(value, &mut bytes);
                if let Ok(event) = AuditEvent::decode(bytes.as_slice()) {
                    prop_assert_eq!(EventView::read(&bytes), Ok(EventView::from(&event)));
                }
            }
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let (proxy, event, hash) = (String::from("edge"), [7_u8; 300].to_vec(), [9_u8; 32].to_vec());
        let written = crate::writer::event_record(&proxy, 3, u64::MAX, &event, &hash);
        let view = RecordView {
            proxy: "edge",
            worker: 3,
            epoch: Fixed64(u64::MAX),
            event: &event,
            hash: &hash,
            finding: &[],
        };
        assert_eq!(RecordView::read(&written), Ok(view));
        let (event, hash) = (event.clone(), hash.clone());
        let message = EventRecord { proxy, worker: 3, epoch: u64::MAX, event, hash, finding: None };
        assert_eq!(message.encode_to_vec(), written);
        let found = EventRecord {
            finding: Some(FoundProblem { to_seq: 5, ..FoundProblem::default() }),
            ..EventRecord::default()
        };
        let bytes = found.encode_to_vec();
        let finding = RecordView::read(&bytes).unwrap().finding;
        assert_eq!(FoundProblem::decode(finding).ok(), found.finding);
    }

    #[test]
    fn what_is_no_event_says_why() {
        let why = |bytes: &[u8]| alloc::format!("{}", EventView::read(bytes).unwrap_err());
        assert_eq!(why(&[0x08]), "its fields cannot be told apart");
        assert_eq!(why(&[0x0a, 0]), "a field has another type");
        assert_eq!(why(&[0x52, 1, 0xff]), "a text is not UTF-8");
    }
}
