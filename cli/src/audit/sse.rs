//! Server-sent events, as far as the control API sends them.

/// One message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    /// Where to go on after it.
    pub(super) id: Option<String>,
    /// What it carries.
    pub(super) data: Option<String>,
    /// What it says beside that.
    pub(super) comment: Option<String>,
}

/// What has come so far, and is no whole message yet.
#[derive(Debug, Default)]
pub(super) struct Reader(Vec<u8>);

impl Reader {
    /// Takes what came, and gives the messages that are whole.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Vec<Message> {
        self.0.extend_from_slice(bytes);
        let mut messages = Vec::new();
        while let Some(end) = self.0.windows(2).position(|pair| pair == b"\n\n") {
            let whole: Vec<u8> = self.0.drain(..end + 2).collect();
            messages.push(message(&String::from_utf8_lossy(&whole)));
        }
        messages
    }
}

fn message(text: &str) -> Message {
    let mut message = Message::default();
    for line in text.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.strip_prefix(' ').unwrap_or(value).to_string();
        match name {
            "id" => message.id = Some(value),
            "data" => message.data = Some(value),
            "" => message.comment = Some(value),
            _ => {}
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_whole_however_they_come() {
        let text = "id: 1\n: live\n\nid: 2\ndata: {\"a\":\"b: c\"}\n\nid: 3";
        let expected = [
            Message { id: Some("1".into()), comment: Some("live".into()), data: None },
            Message { id: Some("2".into()), data: Some("{\"a\":\"b: c\"}".into()), comment: None },
        ];
        assert_eq!(Reader::default().take(text.as_bytes()), expected);
        let mut reader = Reader::default();
        let bytewise: Vec<_> = text.bytes().flat_map(|byte| reader.take(&[byte])).collect();
        assert_eq!(bytewise, expected);
    }
}
