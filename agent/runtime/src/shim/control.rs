//! What an agent may tell a shim, one line for each connection: `stop <ms>`, `pause`, `resume`, `phase`, `wait`.
//! A connection that waits is closed when the container has ended and its record is written.

use std::{
    io::{ErrorKind, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    time::Duration,
};

/// More than any honest agent has open.
const MOST: usize = 256;
const LONGEST_LINE: usize = 64;

/// A request of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Stop(Duration),
    Pause,
    Resume,
    Phase,
    Wait,
}

impl Order {
    fn parse(line: &str) -> Option<Self> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        Some(match word {
            "stop" => Self::Stop(Duration::from_millis(rest.parse().ok()?)),
            "pause" => Self::Pause,
            "resume" => Self::Resume,
            "phase" => Self::Phase,
            "wait" => Self::Wait,
            _ => return None,
        })
    }
}

/// A connection of an agent.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) stream: UnixStream,
    line: Vec<u8>,
    /// Whether it only waits for the end.
    waits: bool,
}

impl Client {
    /// Reads what is there. An order when its line is complete, `Err` when the connection is of no more use.
    pub(super) fn read(&mut self) -> Result<Option<Order>, ()> {
        let mut chunk = [0; LONGEST_LINE];
        let read = match self.stream.read(&mut chunk) {
            Ok(0) => return Err(()),
            Ok(n) => n,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(None),
            Err(_) => return Err(()),
        };
        self.line.extend(&chunk[..read]);
        if self.waits || self.line.len() > LONGEST_LINE {
            return Err(());
        }
        let Some(line) = self.line.strip_suffix(b"\n") else { return Ok(None) };
        let order = std::str::from_utf8(line).ok().and_then(Order::parse).ok_or(())?;
        self.waits = order == Order::Wait;
        Ok(Some(order))
    }

    /// Answers; an agent that does not listen is not waited for.
    pub(super) fn answer(&mut self, text: &str) {
        let _ = self.stream.write_all(text.as_bytes());
    }
}

/// Takes all waiting connections.
pub(super) fn accept(listener: &UnixListener, clients: &mut Vec<Client>) {
    while let Ok((stream, _)) = listener.accept() {
        if clients.len() < MOST && stream.set_nonblocking(true).is_ok() {
            clients.push(Client { stream, line: Vec::new(), waits: false });
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn understands_orders_and_nothing_else() {
        assert_eq!(Order::parse("stop 1500"), Some(Order::Stop(Duration::from_millis(1500))));
        assert_eq!(Order::parse("wait"), Some(Order::Wait));
        assert_eq!(Order::parse("stop"), None);
        assert_eq!(Order::parse("stop -1"), None);
        assert_eq!(Order::parse("rm"), None);
    }

    #[test]
    fn a_line_may_come_in_parts_but_not_for_ever() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut client = Client { stream: ours, line: Vec::new(), waits: false };
        theirs.write_all(b"pau").unwrap();
        assert_eq!(client.read(), Ok(None));
        theirs.write_all(b"se\n").unwrap();
        assert_eq!(client.read(), Ok(Some(Order::Pause)));
        theirs.write_all(&[b'a'; 100]).unwrap();
        assert_eq!(client.read(), Err(()));
    }
}
