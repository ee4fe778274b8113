//! The data partition's empty file system, which the device grows at its first boot.

use std::io::Read as _;

use crate::Error;

/// Made by `assets/data.ext4.sh`; also part of every slot, for devices whose data partition was lost.
pub const PACKED: &[u8] = include_bytes!("../../assets/data.ext4.zst");
/// Its size unpacked.
pub const BYTES: u64 = 64 << 20;

/// The file system, unpacked.
///
/// # Errors
/// [`Error::Malformed`]: never for the bytes that are compiled in.
pub fn template() -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    zstd::Decoder::new(PACKED)
        .and_then(|decoder| decoder.take(BYTES + 1).read_to_end(&mut out))
        .map_err(|error| Error::malformed("the empty data file system", error))?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::process::Command;

    #[test]
    fn the_template_is_a_sound_ext4() {
        let bytes = template().unwrap();
        assert_eq!(bytes.len() as u64, BYTES);
        assert_eq!(&bytes[1080..1082], &0xef53_u16.to_le_bytes(), "ext4's magic number");
        assert_eq!(&bytes[1024 + 120..1024 + 130], b"sosna-data");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data.ext4");
        std::fs::write(&path, &bytes).unwrap();
        let check = ["e2fsck", "/sbin/e2fsck"]
            .iter()
            .find_map(|program| Command::new(program).args(["-f", "-n"]).arg(&path).output().ok());
        match check {
            Some(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout)),
            None => eprintln!("SKIPPED the_template_is_a_sound_ext4: e2fsck is not here"),
        }
    }
}
