//! Live output of tasks whose result needs no commitment: read from the files that the shim writes, sent as it can be,
//! left out where the line is slow. The whole output comes with the result in any case.

use std::{convert::Infallible, fs::File, io, os::unix::fs::FileExt as _, path::PathBuf, time::Duration};

use sosna_protocol::{
    codec::Bounded,
    message::log::{Chunk, MAX_CHUNK, Stream},
};

use super::{Engine, plan::Plan};

const INTERVAL: Duration = Duration::from_millis(500);
/// Further behind than this, the middle is left out.
const MOST_BEHIND: u64 = 256 * 1024;

struct Tail {
    path: PathBuf,
    stream: Stream,
    offset: u64,
}

/// Follows both outputs until it is dropped.
pub(super) async fn tail(engine: &Engine, plan: &Plan) -> Infallible {
    let folder = engine.runtime.folder(&plan.container());
    let of = |name: &str, stream| Tail { path: folder.join(name), stream, offset: 0 };
    let mut tails = [of("stdout", Stream::Stdout), of("stderr", Stream::Stderr)];
    loop {
        tokio::time::sleep(INTERVAL).await;
        if !engine.node.is_connected() {
            continue;
        }
        for tail in &mut tails {
            while let Ok(Some(bytes)) = tail.read() {
                let chunk = Chunk {
                    assignment: plan.assignment,
                    stream: tail.stream,
                    offset: tail.offset,
                    bytes: Bounded(&bytes),
                };
                // Frames of bounded parts encode; one that would not is left out like one that is too slow.
                let Ok(frame) = sosna_host::seal::plain(&chunk) else { break };
                if !engine.offer_live(frame) {
                    break;
                }
                tail.offset += bytes.len() as u64;
            }
        }
    }
}

impl Tail {
    /// The next piece, if there is one.
    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let file = File::open(&self.path)?;
        let behind = file.metadata()?.len().saturating_sub(self.offset);
        if behind > MOST_BEHIND {
            self.offset += behind - MOST_BEHIND / 2;
        }
        let wanted = usize::try_from(behind).unwrap_or(MAX_CHUNK).min(MAX_CHUNK);
        let mut bytes = vec![0; wanted];
        let read = file.read_at(&mut bytes, self.offset)?;
        bytes.truncate(read);
        Ok((read > 0).then_some(bytes))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_slow_line_skips_the_middle() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stdout");
        let mut tail = Tail { path: path.clone(), stream: Stream::Stdout, offset: 0 };
        assert!(tail.read().is_err());
        std::fs::write(&path, b"hello").unwrap();
        assert_eq!(tail.read().unwrap().unwrap(), b"hello");
        tail.offset = 5;
        assert_eq!(tail.read().unwrap(), None);
        std::fs::write(&path, vec![b'x'; 1 << 20]).unwrap();
        assert_eq!(tail.read().unwrap().unwrap().len(), MAX_CHUNK);
        assert_eq!(tail.offset, (1 << 20) - MOST_BEHIND / 2);
    }
}
