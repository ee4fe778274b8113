//! Whether a program can run on a device at all: found out here, not by a device that does not boot.

use crate::Error;

/// Program header that names a dynamic loader.
const INTERPRETER: u32 = 3;

/// Checks that a program is a static ELF for the architecture (Debian's name).
///
/// # Errors
/// [`Error::Refused`].
pub(super) fn check(what: &str, elf: &[u8], architecture: &str) -> Result<(), Error> {
    let refuse = |reason: String| Err(Error::Refused(format!("{what} {reason}")));
    let (machine, name) = match architecture {
        "amd64" => (62, "x86_64"),
        "arm64" => (183, "aarch64"),
        other => return refuse(format!("cannot be checked: the architecture {other} is not known")),
    };
    let Some(header) = elf.get(..64).filter(|header| header.starts_with(b"\x7fELF\x02\x01")) else {
        return refuse("is no 64-bit ELF program".to_owned());
    };
    let found = u16::from_le_bytes([header[18], header[19]]);
    if found != machine {
        return refuse(format!(
            "is built for another processor: the board needs {name} (ELF machine {machine}, found {found})"
        ));
    }
    let number = |at: usize, bytes: usize| {
        let slice = elf.get(at..at.checked_add(bytes)?)?;
        usize::try_from(slice.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte))).ok()
    };
    let (Some(table), Some(size), Some(count)) = (number(32, 8), number(54, 2), number(56, 2)) else {
        return refuse("is cut off".to_owned());
    };
    for n in 0..count {
        match table.checked_add(n * size).and_then(|at| number(at, 4)) {
            None => return refuse("is cut off".to_owned()),
            Some(kind) if kind == INTERPRETER as usize => {
                return refuse("needs shared libraries, and an image has none: build it static".to_owned());
            }
            Some(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn elf(machine: u8, kind: u8) -> Vec<u8> {
        let mut elf = vec![0; 64 + 56];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[18] = machine;
        elf[32] = 64;
        elf[54] = 56;
        elf[56] = 1;
        elf[64] = kind;
        elf
    }

    #[test]
    fn only_static_programs_of_the_board_pass() {
        assert!(check("x", &elf(62, 1), "amd64").is_ok());
        assert!(check("x", &elf(183, 1), "arm64").is_ok());
        for (program, architecture, reason) in [
            (elf(62, 1), "arm64", "aarch64"),
            (elf(62, 3), "amd64", "static"),
            (elf(62, 1)[..90].to_vec(), "mips", "not known"),
            (elf(62, 1)[..64].to_vec(), "amd64", "cut off"),
            (b"#!/bin/sh".to_vec(), "amd64", "no 64-bit ELF"),
        ] {
            let error = check("the agent", &program, architecture).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
