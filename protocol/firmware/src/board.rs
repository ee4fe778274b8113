//! A Cortex-M3 without anything: how it starts, speaks by semihosting, and ends. Nothing here belongs to the protocol.

use core::{
    arch::asm,
    fmt::{self, Write},
    panic::PanicInfo,
    ptr::{addr_of, addr_of_mut},
};

use crate::checks;

/// What the stack is filled with, to see afterwards how deep it has been.
const PAINT: u32 = 0x5aa5_5aa5;
/// How much of the stack the start itself may be using while it paints the rest.
const IN_USE: usize = 256;

/// Semihosting (Arm's specification, version 3): writes a text that ends with a zero.
const SYS_WRITE0: usize = 0x04;
/// Ends the program.
const SYS_EXIT: usize = 0x18;
const APPLICATION_EXIT: usize = 0x2_0026;
const RUN_TIME_ERROR: usize = 0x2_0023;

// Places that the linker knows (memory.x); they have addresses and no values.
unsafe extern "C" {
    static mut _stack_end: u32;
    static mut _stack_start: u32;
    static mut _data_start: u32;
    static mut _data_end: u32;
    static _data_load: u32;
    static mut _bss_start: u32;
    static mut _bss_end: u32;
    static _flash_end: u32;
}

/// An entry of the table with which the processor starts.
union Vector {
    stack: *const u32,
    handler: unsafe extern "C" fn() -> !,
}

// SAFETY: the table is only ever read, by the processor.
unsafe impl Sync for Vector {}

/// Where the stack begins, where to start, and where to go when something goes wrong.
#[used]
#[unsafe(link_section = ".vectors")]
static VECTORS: [Vector; 16] = {
    let mut table = [const { Vector { handler: fault } }; 16];
    table[0] = Vector { stack: addr_of!(_stack_start) };
    table[1] = Vector { handler: reset };
    table
};

/// The first code that runs.
#[unsafe(no_mangle)]
unsafe extern "C" fn reset() -> ! {
    // SAFETY: nothing else runs yet; the ranges are memory.x's, aligned to words, and no part of them is in use:
    // of the stack only what lies well below this function's own frame is painted.
    unsafe {
        let data = addr_of_mut!(_data_start);
        for word in 0..words(data, addr_of!(_data_end)) {
            data.add(word).write_volatile(addr_of!(_data_load).add(word).read_volatile());
        }
        let bss = addr_of_mut!(_bss_start);
        for word in 0..words(bss, addr_of!(_bss_end)) {
            bss.add(word).write_volatile(0);
        }
        let stack = addr_of_mut!(_stack_end);
        for word in 0..words(stack, addr_of!(_stack_start)) - IN_USE / 4 {
            stack.add(word).write_volatile(PAINT);
        }
    }
    let done = checks::all(|what, count| say(format_args!("{what}: {count} right\n")));
    match done {
        Ok(()) => {
            let (flash, statics, stack) = used();
            say(format_args!("flash: {flash} bytes, of which {} test vectors\n", vectors_bytes()));
            say(format_args!(
                "RAM: {} bytes ({statics} static, {stack} of stack), no allocator\n",
                statics + stack
            ));
            end(APPLICATION_EXIT)
        }
        Err(wrong) => {
            say(format_args!("{wrong}\n"));
            end(RUN_TIME_ERROR)
        }
    }
}

/// Any exception: a stack that was too small, a read of what is not there.
unsafe extern "C" fn fault() -> ! {
    say(format_args!("WRONG: the processor faulted\n"));
    end(RUN_TIME_ERROR)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    say(format_args!("WRONG: {info}\n"));
    end(RUN_TIME_ERROR)
}

fn words(from: *const u32, to: *const u32) -> usize {
    (to as usize - from as usize) / 4
}

/// Bytes of flash, of static RAM, and of the stack at its deepest.
fn used() -> (usize, usize, usize) {
    let whole = words(addr_of!(_stack_end), addr_of!(_stack_start));
    // SAFETY: the stack's own memory, which is readable; what is read is only compared.
    let untouched =
        (0..whole).take_while(|word| unsafe { addr_of!(_stack_end).add(*word).read_volatile() } == PAINT);
    let stack = (whole - untouched.count()) * 4;
    let statics = words(addr_of!(_data_start), addr_of!(_bss_end)) * 4;
    (addr_of!(_flash_end) as usize, statics, stack)
}

/// How much of the flash the vectors take, their bytes and the tables over them.
fn vectors_bytes() -> usize {
    use crate::vectors::{COMMITMENTS, FRAMES, MESSAGES, RESULTS, SEALS, SIGNATURES, VOUCHERS};
    let frames =
        FRAMES.iter().map(|one| one.frame.len() + one.arguments.len() + one.headers.map_or(0, <[u8]>::len));
    let messages = MESSAGES.iter().map(|one| one.arguments.len() + one.name.len());
    let seals = SEALS.iter().map(|one| one.frame.len());
    let results =
        RESULTS.iter().flat_map(|one| one.entries).map(|entry| size_of_val(entry) + entry.path.len());
    let bytes: usize = frames.chain(messages).chain(seals).chain(results).sum();
    bytes
        + size_of_val(&COMMITMENTS)
        + size_of_val(&FRAMES)
        + size_of_val(&MESSAGES)
        + size_of_val(&RESULTS)
        + size_of_val(&SEALS)
        + size_of_val(&SIGNATURES)
        + size_of_val(&VOUCHERS)
}

/// Writes in pieces that end with a zero.
struct Host;

impl Write for Host {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut piece = [0; 65];
        for part in text.as_bytes().chunks(64) {
            piece[..part.len()].copy_from_slice(part);
            piece[part.len()] = 0;
            call(SYS_WRITE0, piece.as_ptr() as usize);
        }
        Ok(())
    }
}

fn say(text: fmt::Arguments<'_>) {
    // The writer never fails.
    let _ = Host.write_fmt(text);
}

fn end(reason: usize) -> ! {
    loop {
        call(SYS_EXIT, reason);
    }
}

fn call(operation: usize, argument: usize) {
    // SAFETY: semihosting's call for M-profile processors. It reads what the argument points to, which lives until
    // it returns, and answers in r0.
    unsafe {
        asm!("bkpt 0xab", inout("r0") operation => _, in("r1") argument, options(nostack));
    }
}
