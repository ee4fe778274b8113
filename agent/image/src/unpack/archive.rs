//! Reads a tar archive (POSIX ustar and pax, GNU long names) entry by entry, with a bound on everything it holds in
//! memory. The `tar` crate's own iterator is not used: it reads extension headers of any length into memory, and it
//! splits pax records at line feeds, which breaks binary attributes such as `security.capability`.

use std::io::{self, Read};

use tar::{EntryType, Header};

use super::{
    message::{Limits, Refusal},
    stream::damaged,
};

const BLOCK: u64 = 512;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    HardLink,
    Symlink,
    Device,
    Directory,
    Fifo,
    Other(u8),
}

/// One entry, as the archive tells it: nothing in it is trusted.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) size: u64,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds since 1970 and nanoseconds.
    pub(super) modified: (i64, u32),
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The archive; what of an entry's data was not read is skipped by the next call.
pub(super) struct Archive<'a, R> {
    source: R,
    limits: &'a Limits,
    data_left: u64,
    padding: u64,
}

/// What pax and GNU headers said about the entry that follows them.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    modified: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// An archive's path for a person: printable, not too long.
pub(super) fn printable(path: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(path).chars().take(200).collect();
    text.escape_debug().to_string()
}

fn broken(detail: impl Into<String>) -> Refusal {
    Refusal::Damaged { detail: detail.into() }
}

// === impl Archive ===

impl<'a, R: Read> Archive<'a, R> {
    pub(super) fn new(source: R, limits: &'a Limits) -> Self {
        Self { source, limits, data_left: 0, padding: 0 }
    }

    pub(super) fn into_source(self) -> R {
        self.source
    }

    /// The next entry, or nothing at the end of the archive.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, Refusal> {
        let mut extensions = Extensions::default();
        loop {
            self.skip_data()?;
            let mut block = [0_u8; 512];
            if !self.read_block(&mut block)? {
                return Ok(None);
            }
            let header = Header::from_byte_slice(&block);
            check_sum(header, &block)?;
            let kind = header.entry_type();
            let mut size = header.entry_size().map_err(|_| broken("an entry's size is not a number"))?;
            // Extension headers have sizes of their own; a pax size is about the entry that follows them.
            let extension = kind.is_pax_local_extensions()
                || kind.is_pax_global_extensions()
                || kind.is_gnu_longname()
                || kind.is_gnu_longlink();
            if !extension {
                size = extensions.size.unwrap_or(size);
            }
            self.data_left = size;
            self.padding = (BLOCK - size % BLOCK) % BLOCK;
            if kind.is_pax_local_extensions() {
                let data = self.read_extension()?;
                extensions.read_pax(&data, self.limits)?;
            } else if kind.is_gnu_longname() {
                extensions.path = Some(strip_nul(self.read_extension()?));
            } else if kind.is_gnu_longlink() {
                extensions.link = Some(strip_nul(self.read_extension()?));
            } else if !kind.is_pax_global_extensions() {
                return self.entry(header, kind, size, extensions).map(Some);
            }
        }
    }

    /// Reads the current entry's data; zero at its end.
    pub(super) fn read_data(&mut self, buffer: &mut [u8]) -> Result<usize, Refusal> {
        if self.data_left == 0 {
            return Ok(0);
        }
        let room = usize::try_from(self.data_left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.source.read(&mut buffer[..room]).map_err(|e| damaged(&e))?;
        if read == 0 {
            return Err(Refusal::Truncated { place: "a file".into() });
        }
        self.data_left -= u64::try_from(read).unwrap_or(u64::MAX);
        Ok(read)
    }

    fn entry(&self, header: &Header, kind: EntryType, size: u64, ext: Extensions) -> Result<Entry, Refusal> {
        let path = ext.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let kind = match kind {
            // Archives older than POSIX mark a directory by the slash alone.
            EntryType::Regular if path.ends_with(b"/") => Kind::Directory,
            EntryType::Regular | EntryType::Continuous => Kind::File,
            EntryType::Link => Kind::HardLink,
            EntryType::Symlink => Kind::Symlink,
            EntryType::Char | EntryType::Block => Kind::Device,
            EntryType::Directory => Kind::Directory,
            EntryType::Fifo => Kind::Fifo,
            other => Kind::Other(other.as_byte()),
        };
        let link = ext.link.unwrap_or_else(|| header.link_name_bytes().unwrap_or_default().into_owned());
        // Left blank means zero to every reader of tar but this crate's parser.
        let blank = |field: &[u8]| field.iter().all(|b| matches!(b, 0 | b' '));
        let number = |field: &[u8], value: io::Result<u64>, what: &str| {
            if blank(field) {
                return Ok(0);
            }
            value.map_err(|_| broken(format!("the {what} of {} is not a number", printable(&path))))
        };
        let fields = header.as_old();
        let owner = |value: u64, what: &str| match u32::try_from(value) {
            // The last one means "leave as it is" to chown(2).
            Ok(id) if id != u32::MAX => Ok(id),
            _ => Err(broken(format!("the {what} of {} is out of range", printable(&path)))),
        };
        let uid = ext.uid.map_or_else(|| number(&fields.uid, header.uid(), "owner"), Ok)?;
        let gid = ext.gid.map_or_else(|| number(&fields.gid, header.gid(), "group"), Ok)?;
        let modified = match ext.modified {
            Some(modified) => modified,
            None => (i64::try_from(number(&fields.mtime, header.mtime(), "time")?).unwrap_or(i64::MAX), 0),
        };
        let mode = number(&fields.mode, header.mode().map(u64::from), "mode")?;
        let mode = u32::try_from(mode).map_err(|_| broken("a mode is out of range"))?;
        Ok(Entry {
            kind,
            link,
            size,
            mode: mode & 0o7777,
            uid: owner(uid, "owner")?,
            gid: owner(gid, "group")?,
            modified,
            xattrs: ext.xattrs,
            path,
        })
    }

    fn read_block(&mut self, block: &mut [u8; 512]) -> Result<bool, Refusal> {
        let mut filled = 0;
        while filled < block.len() {
            match self.source.read(&mut block[filled..]).map_err(|e| damaged(&e))? {
                // Some writers leave out the two zero blocks.
                0 if filled == 0 => return Ok(false),
                0 => return Err(Refusal::Truncated { place: "a header".into() }),
                read => filled += read,
            }
        }
        Ok(block.iter().any(|byte| *byte != 0))
    }

    fn read_extension(&mut self) -> Result<Vec<u8>, Refusal> {
        let bound =
            u64::try_from(self.limits.xattr_bytes + 4 * self.limits.path_bytes + 4096).unwrap_or(u64::MAX);
        if self.data_left > bound {
            return Err(broken(format!("an extended header is longer than {bound} bytes")));
        }
        let mut data = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match self.read_data(&mut buffer)? {
                0 => return Ok(data),
                read => data.extend_from_slice(&buffer[..read]),
            }
        }
    }

    fn skip_data(&mut self) -> Result<(), Refusal> {
        let skip = self.data_left.saturating_add(self.padding);
        let skipped =
            io::copy(&mut (&mut self.source).take(skip), &mut io::sink()).map_err(|e| damaged(&e))?;
        // The last entry's padding may be missing, its data may not.
        if skipped < self.data_left {
            return Err(Refusal::Truncated { place: "a file".into() });
        }
        (self.data_left, self.padding) = (0, 0);
        Ok(())
    }
}

// === impl Extensions ===

impl Extensions {
    /// Reads `"%d %s=%s\n"` records by their lengths (POSIX pax, "Extended Header"). Later records win.
    fn read_pax(&mut self, mut data: &[u8], limits: &Limits) -> Result<(), Refusal> {
        let wrong = || broken("a pax header is malformed");
        let mut xattr_bytes = 0;
        while !data.is_empty() {
            let space = data.iter().take(20).position(|b| *b == b' ').ok_or_else(wrong)?;
            let length: usize = text(&data[..space]).and_then(|t| t.parse().ok()).ok_or_else(wrong)?;
            if length > data.len() || length < space + 3 || data[length - 1] != b'\n' {
                return Err(wrong());
            }
            let record = &data[space + 1..length - 1];
            data = &data[length..];
            let equals = record.iter().position(|b| *b == b'=').ok_or_else(wrong)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            let number = || text(value).and_then(|t| t.parse().ok()).ok_or_else(wrong);
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = Some(number()?),
                b"uid" => self.uid = Some(number()?),
                b"gid" => self.gid = Some(number()?),
                b"mtime" => self.modified = Some(time(value).ok_or_else(wrong)?),
                key => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        xattr_bytes += name.len() + value.len();
                        if xattr_bytes > limits.xattr_bytes {
                            let path = self.path.as_deref().map_or_else(|| "an entry".into(), printable);
                            return Err(Refusal::Xattrs { path, limit: limits.xattr_bytes });
                        }
                        self.xattrs.push((name.to_vec(), value.to_vec()));
                    } else if key.starts_with(b"GNU.sparse.") {
                        let path = self.path.as_deref().map_or_else(|| "an entry".into(), printable);
                        return Err(Refusal::Kind { path, kind: 'S' });
                    }
                }
            }
        }
        Ok(())
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    str::from_utf8(bytes).ok()
}

fn strip_nul(mut name: Vec<u8>) -> Vec<u8> {
    while name.last() == Some(&0) {
        name.pop();
    }
    name
}

/// A pax time: decimal seconds, maybe negative, maybe with a fraction.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let value = text(value)?;
    let (seconds, fraction) = value.split_once('.').unwrap_or((value, ""));
    let negative = seconds.starts_with('-');
    let seconds: i64 = seconds.parse().ok()?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanos: u32 = digits.parse().ok()?;
    // -1.25 s is two seconds before, plus 0.75.
    if negative && nanos > 0 {
        Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos))
    } else {
        Some((seconds, nanos))
    }
}

fn check_sum(header: &Header, block: &[u8; 512]) -> Result<(), Refusal> {
    let sum: u32 =
        block.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { 32 } else { u32::from(*b) }).sum();
    match header.cksum() {
        Ok(stored) if stored == sum => Ok(()),
        _ => Err(broken("this is not a tar archive, or a header's checksum is wrong")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn pax_times_before_and_after_1970() {
        assert_eq!(time(b"12"), Some((12, 0)));
        assert_eq!(time(b"12.5"), Some((12, 500_000_000)));
        assert_eq!(time(b"12.0000000019"), Some((12, 1)));
        assert_eq!(time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time(b"-0.5"), Some((-1, 500_000_000)));
        assert_eq!(time(b"1.5e9"), None);
        assert_eq!(time(b""), None);
    }

    #[test]
    fn pax_records_are_cut_by_length_not_by_line() {
        let limits = Limits::for_store(1 << 20);
        let mut ext = Extensions::default();
        ext.read_pax(b"30 SCHILY.xattr.user.a=\n1\n2 = 3\n", &limits).unwrap_err();
        let record = b"SCHILY.xattr.user.a=\nx\n=";
        let data = [format!("{} ", record.len() + 4).as_bytes(), record, b"\n12 path=a/b\n"].concat();
        let mut ext = Extensions::default();
        ext.read_pax(&data, &limits).unwrap();
        assert_eq!(ext.xattrs, [(b"user.a".to_vec(), b"\nx\n=".to_vec())]);
        assert_eq!(ext.path.as_deref(), Some(&b"a/b"[..]));
        for wrong in
            [&b"5 a=b\n"[..], b"7 a=b\n", b"x a=b\n", b"6 ab\n", b"99999999999999999999 a=b\n", b"3 \n"]
        {
            assert!(Extensions::default().read_pax(wrong, &limits).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn spoilt_archives_end_in_an_answer() {
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_pax_extensions([("mtime", &b"1.5"[..]), ("SCHILY.xattr.user.a", b"b\nc")]).unwrap();
        let mut header = Header::new_gnu();
        header.set_size(700);
        builder.append_data(&mut header, "long/".repeat(40), &[7; 700][..]).unwrap();
        let good = builder.into_inner().unwrap();
        let limits = Limits::for_store(1 << 20);
        let mut whole = Archive::new(&good[..], &limits);
        let entry = whole.next().unwrap().unwrap();
        assert_eq!((entry.path.len(), entry.size, entry.modified), (200, 700, (1, 500_000_000)));
        assert_eq!((entry.mode, entry.uid), (0, 0), "blank numbers are zero");
        assert!(whole.next().unwrap().is_none());
        let mut seed = 1_u64;
        let mut random = |bound: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(seed >> 33).unwrap() % bound
        };
        let mut refused = 0;
        for _ in 0..20_000 {
            let mut bytes = good.clone();
            let header = random(bytes.len() / 512) * 512;
            for _ in 0..=random(3) {
                let at = random(bytes.len());
                bytes[at] = u8::try_from(random(256)).unwrap();
            }
            // The check sum made right again, so that what lies behind it is reached.
            if header + 512 <= bytes.len() {
                let block = &mut bytes[header..header + 512];
                let sum: u32 =
                    (0..512).map(|i| if (148..156).contains(&i) { 32 } else { u32::from(block[i]) }).sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
            bytes.truncate(random(bytes.len()) + bytes.len() / 2);
            let mut archive = Archive::new(&bytes[..], &limits);
            let mut buffer = [0; 100];
            let all = (0..100).try_for_each(|_| match archive.next()? {
                Some(_) => archive.read_data(&mut buffer).map(drop),
                None => Ok(()),
            });
            refused += u32::from(all.is_err());
        }
        assert!((1000..20_000).contains(&refused), "{refused}");
    }
}
