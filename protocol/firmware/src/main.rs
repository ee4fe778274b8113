//! Firmware that speaks the protocol: proof that sosna-protocol needs neither a standard library nor an allocator,
//! and finds the right answers on a microcontroller. It encodes, decodes and verifies the committed vectors, then
//! says how much flash and RAM that took.
//!
//! `cargo xtask test --stage no-std` builds it for a Cortex-M3 and runs it in QEMU. On any other machine it does the
//! same checks as an ordinary program. It must never name `alloc`: then it would not link.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod board;
mod checks;
mod vectors;

#[cfg(not(target_os = "none"))]
fn main() -> std::process::ExitCode {
    match checks::all(|what, count| println!("{what}: {count} right")) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(wrong) => {
            eprintln!("{wrong}");
            std::process::ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_checks_hold_here_too() {
        let mut counted = 0;
        assert_eq!(super::checks::all(|_, count| counted += count), Ok(()));
        assert_eq!(counted, crate::vectors::count());
    }
}
