//! Compiled filters on disk, by the hash of what they were compiled from. A file that is not exactly what was
//! written is compiled again, never trusted.

use std::{fs, io, os::unix::fs::DirBuilderExt, path::Path};

use oci_spec::runtime::LinuxSeccomp;
use seccompiler::sock_filter;
use sha2::{Digest, Sha256};

use super::{Compiled, Result, SeccompError, translate};
use crate::durable;

/// Changes when the translation or the layout does; otherwise old files would be used for new rules.
const FORMAT: &[u8] = b"sosna-bpf-2\0";

/// The compiled filters of a section, from the cache folder if they are there; else compiled and kept there.
///
/// A cache that cannot be written costs time, not safety, and is no error.
///
/// # Errors
/// [`SeccompError`] when the section cannot be honoured.
pub fn load_or_compile(seccomp: &LinuxSeccomp, cache: Option<&Path>) -> Result<Compiled> {
    let source = serde_json::to_vec(seccomp).map_err(SeccompError::Profile)?;
    let mut hasher = Sha256::new();
    hasher.update(FORMAT);
    hasher.update(std::env::consts::ARCH);
    hasher.update([0]);
    hasher.update(&source);
    let path = cache.map(|folder| folder.join(format!("{}.bpf", crate::hex(&hasher.finalize()))));
    if let Some(compiled) = path.as_deref().and_then(|p| fs::read(p).ok()).and_then(|b| decode(&b)) {
        return Ok(compiled);
    }
    let compiled = translate::compile(seccomp)?;
    if let Some(path) = path {
        let _ = store(&path, &encode(&compiled));
    }
    Ok(compiled)
}

fn store(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    // A checksum guards it; syncing would cost more than compiling.
    durable::replace(path, content, 0o600)
}

fn encode(compiled: &Compiled) -> Vec<u8> {
    let mut body = compiled.flags.to_le_bytes().to_vec();
    for program in &compiled.programs {
        // seccompiler bounds a program to 4096 instructions
        body.extend(u32::try_from(program.len()).unwrap_or(0).to_le_bytes());
        for i in program {
            body.extend(i.code.to_le_bytes());
            body.extend([i.jt, i.jf]);
            body.extend(i.k.to_le_bytes());
        }
    }
    let mut out = FORMAT.to_vec();
    out.extend(Sha256::digest(&body));
    out.extend(body);
    out
}

fn decode(bytes: &[u8]) -> Option<Compiled> {
    let rest = bytes.strip_prefix(FORMAT)?;
    let (sum, body) = rest.split_at_checked(32)?;
    if Sha256::digest(body).as_slice() != sum {
        return None;
    }
    let (flags, mut rest) = body.split_first_chunk::<4>()?;
    let mut programs = Vec::new();
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (code, tail) = tail.split_at_checked(length.checked_mul(8)?)?;
        let instructions = code.chunks_exact(8).map(|c| sock_filter {
            code: u16::from_le_bytes([c[0], c[1]]),
            jt: c[2],
            jf: c[3],
            k: u32::from_le_bytes([c[4], c[5], c[6], c[7]]),
        });
        programs.push(instructions.collect());
        rest = tail;
    }
    rest.is_empty().then_some(Compiled { flags: u32::from_le_bytes(*flags), programs })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::seccomp::default_profile;

    #[test]
    fn comes_back_from_disk_and_damage_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("seccomp");
        let profile = default_profile(&[]).unwrap();
        let first = load_or_compile(&profile, Some(&folder)).unwrap();
        let file = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let mut bytes = fs::read(&file).unwrap();
        assert_eq!(decode(&bytes).unwrap(), first);
        // An "errno" turned into "allow" must not get through.
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert!(decode(&bytes).is_none());
        fs::write(&file, &bytes).unwrap();
        assert_eq!(load_or_compile(&profile, Some(&folder)).unwrap(), first);
        assert_eq!(decode(&fs::read(&file).unwrap()).unwrap(), first);
        for cut in 0..bytes.len().min(200) {
            assert!(decode(&bytes[..cut]).is_none());
        }
    }
}
