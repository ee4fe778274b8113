//! A part of a file that behaves like a file of its own: a partition within an image.

use std::io::{self, Read, Seek, SeekFrom, Write};

/// From `start` on, `length` bytes; nothing outside can be reached.
#[derive(Debug)]
pub struct Region<F> {
    file: F,
    start: u64,
    length: u64,
    at: u64,
}

impl<F> Region<F> {
    /// A part of `file`.
    pub fn new(file: F, start: u64, length: u64) -> Self {
        Self { file, start, length, at: 0 }
    }

    fn left(&self, wanted: usize) -> usize {
        usize::try_from(self.length - self.at.min(self.length)).map_or(wanted, |left| left.min(wanted))
    }
}

impl<F: Read + Seek> Read for Region<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = self.left(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        self.file.seek(SeekFrom::Start(self.start + self.at))?;
        let n = self.file.read(&mut buffer[..most])?;
        self.at += n as u64;
        Ok(n)
    }
}

impl<F: Write + Seek> Write for Region<F> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let most = self.left(data.len());
        if most == 0 {
            return Ok(0);
        }
        self.file.seek(SeekFrom::Start(self.start + self.at))?;
        let n = self.file.write(&data[..most])?;
        self.at += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl<F: Seek> Seek for Region<F> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::other("before the beginning"))?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn nothing_outside_is_touched() {
        let mut file = io::Cursor::new(vec![b'.'; 10]);
        let mut region = Region::new(&mut file, 3, 4);
        region.seek(SeekFrom::End(-2)).unwrap();
        assert!(region.write_all(b"abc").is_err());
        region.seek(SeekFrom::Start(0)).unwrap();
        let mut text = String::new();
        region.read_to_string(&mut text).unwrap();
        assert_eq!(text, "..ab");
        assert!(region.seek(SeekFrom::Current(-9)).is_err());
        assert_eq!(file.into_inner(), b".....ab...");
    }
}
