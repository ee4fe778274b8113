//! Stand-ins for `sosna-init` and the agent: the smallest static programs there are, made here from machine code so
//! that no cross compiler is needed. They write one line and switch the machine off. And what all tests need of boards.

use sosna_image::Error;
use sosna_image::board::Board;
use sosna_image::package::Cache;

/// The board with its pinned packages, or with the current ones, which is said, where the archive has moved on. None,
/// which is said, too, where there is no archive.
pub(crate) fn board(test: &str, name: &str, cache: &Cache) -> Option<Board> {
    match Board::find(name).unwrap().obtainable(cache) {
        Ok((board, changes)) => {
            if !changes.is_empty() {
                let changes: Vec<_> = changes.iter().map(ToString::to_string).collect();
                eprintln!("PINS GONE: {name}: tested with {}", changes.join(", "));
            }
            Some(board)
        }
        Err(error @ (Error::Package { .. } | Error::Hash { .. })) => {
            eprintln!("SKIPPED {test}: {error:?}");
            None
        }
        Err(error) => panic!("{error:?}"),
    }
}

/// Debian's name of an architecture, and the line; returns an ELF file.
pub(crate) fn program(architecture: &str, line: &str) -> Vec<u8> {
    let (machine, code) = match architecture {
        "amd64" => (62_u16, x86_64(line.len())),
        "arm64" => (183, aarch64(line.len())),
        other => panic!("no stand-in for {other}"),
    };
    let base = 0x40_0000_u64;
    let headers = 64 + 56;
    let size = (headers + code.len() + line.len()) as u64;
    let mut elf = Vec::new();
    elf.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    elf.extend_from_slice(&2_u16.to_le_bytes()); // a program at fixed addresses
    elf.extend_from_slice(&machine.to_le_bytes());
    elf.extend_from_slice(&1_u32.to_le_bytes());
    for word in [base + headers as u64, 64, 0] {
        elf.extend_from_slice(&word.to_le_bytes()); // entry, program headers, no sections
    }
    elf.extend_from_slice(&0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 0, 0, 0] {
        elf.extend_from_slice(&half.to_le_bytes());
    }
    elf.extend_from_slice(&1_u32.to_le_bytes()); // load the whole file
    elf.extend_from_slice(&5_u32.to_le_bytes()); // readable, executable
    for word in [0, base, base, size, size, 0x1_0000] {
        elf.extend_from_slice(&word.to_le_bytes());
    }
    elf.extend_from_slice(&code);
    elf.extend_from_slice(line.as_bytes());
    elf
}

/// `write(1, line, length); reboot(…, LINUX_REBOOT_CMD_POWER_OFF); for (;;);`
fn x86_64(length: usize) -> Vec<u8> {
    let after = [
        &[0xba][..],
        &u32::try_from(length).unwrap().to_le_bytes(), // mov edx, length
        &[0xb8, 1, 0, 0, 0, 0x0f, 0x05],               // mov eax, 1; syscall
        &[0xbf, 0xad, 0xde, 0xe1, 0xfe],               // mov edi, 0xfee1dead
        &[0xbe, 0x69, 0x19, 0x12, 0x28],               // mov esi, 0x28121969
        &[0xba, 0xdc, 0xfe, 0x21, 0x43],               // mov edx, 0x4321fedc
        &[0xb8, 169, 0, 0, 0, 0x0f, 0x05],             // mov eax, 169; syscall
        &[0xeb, 0xfe],                                 // jmp here
    ]
    .concat();
    let mut code = vec![0xbf, 1, 0, 0, 0, 0x48, 0x8d, 0x35]; // mov edi, 1; lea rsi, [rip + …]
    code.extend_from_slice(&u32::try_from(after.len()).unwrap().to_le_bytes());
    code.extend_from_slice(&after);
    code
}

/// The same.
fn aarch64(length: usize) -> Vec<u8> {
    let movz = |register: u32, value: u32| 0xd280_0000 | value << 5 | register;
    let movk = |register: u32, value: u32| 0xf2a0_0000 | value << 5 | register;
    let svc = 0xd400_0001;
    let words = 14_u32;
    // The line follows the code; `adr` is the second word, and counts bytes from itself.
    let distance = (words - 1) * 4;
    let adr = 0x1000_0000 | (distance & 3) << 29 | (distance >> 2) << 5 | 1;
    let code = [
        movz(0, 1),
        adr,
        movz(2, u32::try_from(length).unwrap()),
        movz(8, 64),
        svc,
        movz(0, 0xdead),
        movk(0, 0xfee1),
        movz(1, 0x1969),
        movk(1, 0x2812),
        movz(2, 0xfedc),
        movk(2, 0x4321),
        movz(8, 142),
        svc,
        0x1400_0000, // b here
    ];
    assert_eq!(code.len(), words as usize);
    code.iter().flat_map(|word: &u32| word.to_le_bytes()).collect()
}
