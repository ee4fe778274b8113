//! A unified kernel image: systemd's EFI stub with kernel, initramfs and command line as sections of its own.
//! Source: the UAPI group's "Unified Kernel Image" specification; PE/COFF as Microsoft describes it.

use crate::Error;

/// Where sections are placed in memory: the stub's own alignment, and that of pages.
const ALIGN: u32 = 0x1000;
/// Initialised data, readable.
const DATA: u32 = 0x4000_0040;
const HEADER: usize = 40;

/// What goes into a unified kernel image.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// systemd's `linux*.efi.stub`.
    pub stub: &'a [u8],
    /// What an `os-release` file says; the boot loader orders images by its VERSION_ID.
    pub os_release: &'a str,
    /// The kernel's command line.
    pub command_line: &'a str,
    /// The kernel's own version (`uname -r`).
    pub uname: &'a str,
    /// The initramfs.
    pub initramfs: &'a [u8],
    /// The kernel with its own EFI header.
    pub kernel: &'a [u8],
}

/// Where the numbers are that have to be changed, and what they are.
struct Headers {
    sections_at: usize,
    sections: usize,
    optional: usize,
    table: usize,
    file_align: u32,
    headers_end: usize,
}

/// Builds the image.
///
/// # Errors
/// [`Error::Malformed`]: the stub is not a PE file of 64 bits, or has no room for more sections.
pub fn build(parts: &Parts<'_>) -> Result<Vec<u8>, Error> {
    let odd = |reason: &str| Error::malformed("the EFI stub", reason);
    let headers = headers(parts.stub).ok_or_else(|| odd("it is not a 64-bit PE file"))?;
    let mut out = parts.stub.to_vec();
    let mut count = headers.sections;
    let new: [(&[u8; 8], &[u8]); 5] = [
        (b".osrel\0\0", parts.os_release.as_bytes()),
        (b".cmdline", parts.command_line.as_bytes()),
        (b".uname\0\0", parts.uname.as_bytes()),
        (b".initrd\0", parts.initramfs),
        // Last: the kernel may want more memory behind it than its file has.
        (b".linux\0\0", parts.kernel),
    ];
    if headers.headers_end > parts.stub.len() {
        return Err(odd("it is cut off"));
    }
    if headers.table + (count + new.len()) * HEADER > headers.headers_end {
        return Err(odd("its header has no room for five more sections"));
    }
    let size = |bytes: usize| u32::try_from(bytes).map_err(|_| odd("what goes into it is larger than 4 GB"));
    let mut address = sections(parts.stub, &headers)
        .map(|s| s.address.saturating_add(s.virtual_size))
        .max()
        .unwrap_or(0)
        .checked_next_multiple_of(ALIGN)
        .ok_or_else(|| odd("its sections lie too high"))?;
    let mut initialised = number(&out, headers.optional + 8).unwrap_or(0);
    for (name, bytes) in new {
        out.resize(out.len().next_multiple_of(headers.file_align as usize), 0);
        let at = size(out.len())?;
        let raw = size(bytes.len().next_multiple_of(headers.file_align as usize))?;
        out.extend_from_slice(bytes);
        out.resize(at as usize + raw as usize, 0);
        let header = headers.table + count * HEADER;
        out[header..header + HEADER].fill(0);
        out[header..header + 8].copy_from_slice(name);
        for (offset, value) in [(8, size(bytes.len())?), (12, address), (16, raw), (20, at), (36, DATA)] {
            set(&mut out, header + offset, value);
        }
        count += 1;
        initialised = initialised.saturating_add(raw);
        address = address
            .checked_add(size(bytes.len())?)
            .and_then(|end| end.checked_next_multiple_of(ALIGN))
            .ok_or_else(|| odd("what goes into it is larger than 4 GB"))?;
    }
    let sections = u16::try_from(count).map_err(|_| odd("it has too many sections"))?;
    out[headers.sections_at..headers.sections_at + 2].copy_from_slice(&sections.to_le_bytes());
    set(&mut out, headers.optional + 8, initialised);
    set(&mut out, headers.optional + 56, address); // SizeOfImage
    set(&mut out, headers.optional + 64, 0); // CheckSum, which nobody checks
    Ok(out)
}

/// The content of a section of an image.
#[must_use]
pub fn section<'a>(image: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let headers = headers(image)?;
    let found = sections(image, &headers).find(|s| s.name == name)?;
    let (at, size) = (found.raw_at as usize, found.virtual_size.min(found.raw_size) as usize);
    image.get(at..at.checked_add(size)?)
}

/// The section that holds the kernel's command line.
pub const COMMAND_LINE: &str = ".cmdline";
/// The name under which [`parts`] gives what is before the sections.
pub const HEADER_PART: &str = "header";

/// All parts of an image with their names: the header, without the numbers that depend on the command line's length,
/// and every section. None where it is not a PE file of 64 bits, or is cut off.
#[must_use]
pub fn parts(image: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let headers = headers(image)?;
    let mut header = image.get(..headers.table)?.to_vec();
    // SizeOfInitializedData, SizeOfImage, CheckSum.
    for at in [8, 56, 64] {
        header.get_mut(headers.optional + at..headers.optional + at + 4)?.fill(0);
    }
    let mut parts = vec![(HEADER_PART.to_owned(), header)];
    let all: Vec<Section> = sections(image, &headers).collect();
    if all.len() != headers.sections {
        return None;
    }
    for section in all {
        let (at, size) = (section.raw_at as usize, section.virtual_size.min(section.raw_size) as usize);
        parts.push((section.name, image.get(at..at.checked_add(size)?)?.to_vec()));
    }
    Some(parts)
}

struct Section {
    name: String,
    virtual_size: u32,
    address: u32,
    raw_size: u32,
    raw_at: u32,
}

fn sections<'a>(image: &'a [u8], headers: &Headers) -> impl Iterator<Item = Section> + use<'a> {
    let (table, count) = (headers.table, headers.sections);
    (0..count).filter_map(move |n| {
        let at = table + n * HEADER;
        let name = String::from_utf8_lossy(image.get(at..at + 8)?);
        Some(Section {
            name: name.trim_end_matches('\0').to_owned(),
            virtual_size: number(image, at + 8)?,
            address: number(image, at + 12)?,
            raw_size: number(image, at + 16)?,
            raw_at: number(image, at + 20)?,
        })
    })
}

fn headers(image: &[u8]) -> Option<Headers> {
    let short = |at: usize| Some(usize::from(u16::from_le_bytes(image.get(at..at + 2)?.try_into().ok()?)));
    if image.get(..2)? != b"MZ" {
        return None;
    }
    let pe = number(image, 0x3c)? as usize;
    let optional = pe.checked_add(24)?;
    if image.get(pe..pe + 4)? != b"PE\0\0" || short(optional)? != 0x20b {
        return None;
    }
    let file_align = number(image, optional + 36)?;
    Some(Headers {
        sections_at: pe + 6,
        sections: short(pe + 6)?,
        optional,
        table: optional + short(pe + 20)?,
        file_align: if file_align.is_power_of_two() && file_align <= ALIGN {
            file_align
        } else {
            return None;
        },
        headers_end: number(image, optional + 60)? as usize,
    })
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn set(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// The smallest stub: headers and one section.
    fn stub(room: u32) -> Vec<u8> {
        let mut stub = vec![0; 1024];
        stub[..2].copy_from_slice(b"MZ");
        set(&mut stub, 0x3c, 0x40);
        stub[0x40..0x44].copy_from_slice(b"PE\0\0");
        stub[0x46] = 1;
        stub[0x54] = 240;
        stub[0x58..0x5a].copy_from_slice(&0x20b_u16.to_le_bytes());
        set(&mut stub, 0x58 + 36, 512);
        set(&mut stub, 0x58 + 60, room);
        let table = 0x58 + 240;
        stub[table..table + 5].copy_from_slice(b".text");
        for (offset, value) in [(8, 100), (12, 0x1000), (16, 512), (20, 512)] {
            set(&mut stub, table + offset, value);
        }
        stub
    }

    #[test]
    fn sections_are_added_aligned_and_found_again() {
        let stub = stub(1024);
        let kernel = vec![9; 5000];
        let parts = Parts {
            stub: &stub,
            os_release: "VERSION_ID=1\n",
            command_line: "quiet",
            uname: "6.12",
            initramfs: b"rd",
            kernel: &kernel,
        };
        let image = build(&parts).unwrap();
        assert_eq!(section(&image, ".cmdline").unwrap(), b"quiet");
        assert_eq!(section(&image, ".linux").unwrap(), &kernel[..]);
        assert_eq!(section(&image, ".initrd").unwrap(), b"rd");
        assert!(section(&image, ".other").is_none());
        let headers = headers(&image).unwrap();
        assert_eq!(headers.sections, 6);
        let all: Vec<_> = sections(&image, &headers).collect();
        assert!(all.iter().all(|s| s.address % ALIGN == 0 && s.raw_at % 512 == 0));
        assert!(all.windows(2).all(|pair| pair[0].address + pair[0].virtual_size <= pair[1].address));
        assert_eq!(number(&image, headers.optional + 56).unwrap(), all[5].address + 0x2000);
    }

    /// A bit anywhere that counts changes a part; one in the command line changes that alone.
    #[test]
    fn parts_differ_where_a_bit_does_and_the_command_line_stands_apart() {
        let (mut stub, kernel) = (stub(1024), vec![9; 3000]);
        // Its own section behind the room for more headers.
        stub.resize(1536, 3);
        set(&mut stub, 0x58 + 240 + 20, 1024);
        let parts_of = |command_line| Parts {
            stub: &stub,
            os_release: "VERSION_ID=1\n",
            command_line,
            uname: "6.12",
            initramfs: b"rd",
            kernel: &kernel,
        };
        let (one, other) = (build(&parts_of("quiet")).unwrap(), build(&parts_of(&"x ".repeat(600))).unwrap());
        let without = |image: &[u8]| {
            let mut all = parts(image).unwrap();
            all.retain(|(name, _)| name != COMMAND_LINE);
            all
        };
        assert_eq!(without(&one), without(&other));
        assert_eq!(without(&one).len(), 6, "header, .text, .osrel, .uname, .initrd, .linux");
        let linux = one.windows(3000).position(|bytes| bytes == kernel).unwrap();
        let mut flipped = one.clone();
        flipped[linux + 1000] ^= 1;
        assert_ne!(without(&flipped), without(&one));
        for cut in 0..one.len() {
            let _ = parts(&one[..cut]);
        }
        for at in 0..1024 {
            for bit in 0..8 {
                let mut wrong = one.clone();
                wrong[at] ^= 1 << bit;
                let _ = parts(&wrong);
            }
        }
    }

    #[test]
    fn stubs_that_cannot_be_used_are_refused() {
        let small = stub(400);
        let parts =
            |stub| Parts { stub, os_release: "", command_line: "", uname: "", initramfs: b"", kernel: b"" };
        assert!(build(&parts(&small)).unwrap_err().to_string().contains("room"));
        assert!(build(&parts(b"ELF")).is_err());
        let whole = stub(1024);
        for cut in 0..400 {
            assert!(build(&parts(&whole[..cut])).is_err());
        }
    }
}
