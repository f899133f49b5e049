//! A whole request: headers and body.

use sallyport_mcp_wire::{
    Era, Fault, Kind, Limits, RequestHeaders, SUPPORTED_VERSIONS, Scratch, agree, check_media, read,
};

/// Reads a request as it stands on the wire: `name: value` lines, an empty line, the body. What is accepted has one
/// revision that is known, and one that demands mirrored headers has them. Answers with the fault, if it was not
/// accepted.
///
/// # Panics
/// It was accepted although it should not be.
pub fn request(bytes: &[u8]) -> Option<Fault> {
    let end = bytes.windows(2).position(|window| window == b"\n\n").unwrap_or(bytes.len());
    let (head, body) = bytes.split_at(end);
    let body = body.get(2..).unwrap_or_default();
    accept(head, body).err()
}

fn accept(head: &[u8], body: &[u8]) -> Result<(), Fault> {
    let pairs = head.split(|byte| *byte == b'\n').filter_map(|line| {
        // The first byte may be the colon of a pseudo-header.
        let colon = line.iter().skip(1).position(|byte| *byte == b':')?.saturating_add(1);
        Some((line.get(..colon)?, line.get(colon.saturating_add(1)..)?.trim_ascii()))
    });
    let headers = RequestHeaders::collect(pairs)?;
    check_media(&headers)?;
    let mut scratch = Scratch::new(1);
    let message = read(body, &Limits::default(), &mut scratch).map_err(|rejection| rejection.fault)?;
    let agreement = agree(&headers, &message)?;
    assert!(agreement.version.is_none_or(|version| SUPPORTED_VERSIONS.contains(&version)));
    if agreement.era == Era::Modern && message.kind == Kind::Request {
        assert_eq!(headers.mcp_method(), Some(message.method_name.as_str()));
        assert_eq!(message.meta_version.as_ref().map(|text| text.as_str()), agreement.version);
    }
    Ok(())
}
