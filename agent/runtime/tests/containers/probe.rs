//! Runs in a container: makes system calls one by one and says what the kernel answered.

use std::{io, process::ExitCode};

pub(crate) fn main(args: &[String]) -> ExitCode {
    if args.first().is_some_and(|a| a == "32-bit") {
        return native_only();
    }
    // glibc tries clone3 and must be told that it does not exist, or there would be no threads.
    std::thread::spawn(|| println!("thread ok")).join().unwrap();
    call("clone3", libc::SYS_clone3, [0; 2]);
    call("io_uring_setup", libc::SYS_io_uring_setup, [1, 0]);
    call("keyctl", libc::SYS_keyctl, [0, 0]);
    call("unshare", libc::SYS_unshare, [i64::from(libc::CLONE_NEWUSER), 0]);
    call("bpf", libc::SYS_bpf, [0, 0]);
    call("userfaultfd", libc::SYS_userfaultfd, [0, 0]);
    let flags = i64::from(libc::CLONE_NEWUSER | libc::SIGCHLD);
    call("namespace by clone", libc::SYS_clone, [flags, 0]);
    for (name, family) in [
        ("AF_ALG", libc::AF_ALG),
        ("AF_VSOCK", libc::AF_VSOCK),
        ("AF_UNIX", libc::AF_UNIX),
        ("AF_NETLINK", libc::AF_NETLINK),
    ] {
        call(name, libc::SYS_socket, [family.into(), libc::SOCK_RAW.into()]);
    }
    #[cfg(target_arch = "x86_64")]
    call("x32", libc::SYS_getpid | 0x4000_0000, [0; 2]);
    ExitCode::SUCCESS
}

fn call(name: &str, number: i64, args: [i64; 2]) {
    // SAFETY: none of these calls writes to memory of this process with the arguments that are given.
    let result = unsafe { libc::syscall(number, args[0], args[1], 0, 0, 0) };
    let errno = if result < 0 { io::Error::last_os_error().raw_os_error().unwrap() } else { 0 };
    println!("{name} {errno}");
}

/// Makes a call in the numbering of another architecture.
fn native_only() -> ExitCode {
    #[cfg(target_arch = "x86_64")]
    {
        let mut number: u64 = 20;
        // SAFETY: `getpid` of the 32-bit table touches no memory.
        unsafe { std::arch::asm!("int 0x80", inlateout("rax") number) };
        println!("32-bit getpid is {number}");
    }
    ExitCode::SUCCESS
}
