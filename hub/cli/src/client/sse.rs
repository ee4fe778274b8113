//! Server-sent events (HTML living standard, section 9.2), as a hub sends them.

use std::{collections::VecDeque, time::Duration};

use reqwest::{Method, Response, header};

use super::Hub;
use crate::error::Error;

/// Hubs send at least a comment this often, three times over.
const SILENCE: Duration = Duration::from_secs(45);
/// No event is longer: a task with all its assignments is far below.
const MAX_EVENT: usize = 16 << 20;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its name; `message` where it has none.
    pub name: String,
    /// Its data, lines joined by `\n`.
    pub data: String,
}

/// Events as they come.
#[derive(Debug)]
pub struct Events {
    hub: Hub,
    response: Response,
    parser: Parser,
    ready: VecDeque<Event>,
}

impl Hub {
    /// Opens a stream of events.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn events(&self, path: &str) -> Result<Events, Error> {
        let request = self.request(Method::GET, path).header(header::ACCEPT, "text/event-stream");
        let response = tokio::time::timeout(SILENCE, self.send(path, request))
            .await
            .map_err(|_| self.silent("it took the request and said nothing"))??;
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if !kind.is_some_and(|kind| kind.starts_with("text/event-stream")) {
            let status = response.status().as_u16();
            return Err(Error::NotAHub { hub: self.base().to_owned(), path: path.to_owned(), status });
        }
        Ok(Events { hub: self.clone(), response, parser: Parser::default(), ready: VecDeque::new() })
    }
}

impl Events {
    /// The next event; `None` at the stream's end.
    ///
    /// # Errors
    /// [`Error::NoAnswer`] where the connection breaks or falls silent.
    pub async fn next(&mut self) -> Result<Option<Event>, Error> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let chunk = tokio::time::timeout(SILENCE, self.response.chunk())
                .await
                .map_err(|_| self.hub.silent("it has said nothing for a long time"))?
                .map_err(|error| self.hub.broken(error))?;
            match chunk {
                None => return Ok(None),
                Some(bytes) => {
                    self.parser.feed(&bytes, &mut self.ready);
                    if self.parser.held() > MAX_EVENT {
                        return Err(self.hub.silent("it sends an event without end"));
                    }
                }
            }
        }
    }
}

/// Makes events of bytes.
#[derive(Debug, Default)]
struct Parser {
    line: Vec<u8>,
    after_return: bool,
    name: String,
    data: Vec<String>,
    data_length: usize,
}

impl Parser {
    fn feed(&mut self, bytes: &[u8], into: &mut VecDeque<Event>) {
        for &byte in bytes {
            let after_return = std::mem::replace(&mut self.after_return, byte == b'\r');
            match byte {
                b'\n' if after_return => {}
                b'\n' | b'\r' => {
                    let line = std::mem::take(&mut self.line);
                    self.end_of_line(&String::from_utf8_lossy(&line), into);
                }
                other => self.line.push(other),
            }
        }
    }

    fn held(&self) -> usize {
        self.line.len() + self.data_length
    }

    fn end_of_line(&mut self, line: &str, into: &mut VecDeque<Event>) {
        if line.is_empty() {
            let name = std::mem::take(&mut self.name);
            let data = std::mem::take(&mut self.data);
            self.data_length = 0;
            // An `end` without data is still an end: hubs may leave an empty `data:` out.
            if !data.is_empty() || !name.is_empty() {
                let name = if name.is_empty() { "message".to_owned() } else { name };
                into.push_back(Event { name, data: data.join("\n") });
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.name = value.to_owned(),
            "data" => {
                self.data_length += value.len() + 1;
                self.data.push(value.to_owned());
            }
            // Comments keep the connection alive; ids and retry times mean nothing to us.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn parse(pieces: &[&str]) -> Vec<(String, String)> {
        let (mut parser, mut events) = (Parser::default(), VecDeque::new());
        pieces.iter().for_each(|piece| parser.feed(piece.as_bytes(), &mut events));
        events.into_iter().map(|event| (event.name, event.data)).collect()
    }

    #[test]
    fn events_come_out_however_the_bytes_are_cut() {
        let text =
            ": hello\n\nevent: log\ndata: {\"a\":1}\n\ndata:one\r\ndata: two\r\n\r\nevent: end\n\nid: 5\n\n";
        let expected = [("log", "{\"a\":1}"), ("message", "one\ntwo"), ("end", "")];
        let expected: Vec<_> = expected.map(|(name, data)| (name.to_owned(), data.to_owned())).to_vec();
        assert_eq!(parse(&[text]), expected);
        for cut in 1..text.len() {
            let (start, end) = text.split_at(cut);
            assert_eq!(parse(&[start, end]), expected, "cut at {cut}");
        }
        assert!(parse(&["data: never ended"]).is_empty());
    }
}
