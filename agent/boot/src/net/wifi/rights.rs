//! The supplicant's rights: a user of its own with the two capabilities that it works by, and no way to more. A program
//! of its own start, because what a process gives up it gives up before it has threads.

use std::{io, os::unix::process::CommandExt as _, process::Command};

use nix::{
    sys::prctl,
    unistd::{Gid, Uid, setgroups, setresgid, setresuid},
};

use super::{SUPPLICANT, USER, process};

/// What [`STAGE`](crate::first::STAGE) says to a process that is to become a supplicant.
pub(crate) const PART: &str = "supplicant";

const NET_ADMIN: u32 = 12;
const NET_RAW: u32 = 13;
const KEPT: u32 = 1 << NET_ADMIN | 1 << NET_RAW;

/// Gives up all rights but those of a supplicant and becomes that of the card that the first argument names; ends where
/// that cannot be done.
pub(crate) fn become_supplicant() -> ! {
    let error = std::env::args().nth(1).map_or_else(
        || io::Error::other("no card was named"),
        |card| give_up().map_or_else(|error| error, |()| exec(&card)),
    );
    eprintln!("{SUPPLICANT}: {error}");
    std::process::exit(1)
}

fn exec(card: &str) -> io::Error {
    Command::new(SUPPLICANT)
        .args(["-i", card, "-D", "nl80211", "-c"])
        .arg(process::configuration(card))
        .env_clear()
        .exec()
}

fn give_up() -> io::Result<()> {
    for capability in 0..64 {
        if capability != NET_ADMIN && capability != NET_RAW {
            // Fails behind the last that this kernel knows.
            // SAFETY: no memory is passed.
            unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        }
    }
    prctl::set_keepcaps(true)?;
    let (user, group) = (Uid::from_raw(USER), Gid::from_raw(USER));
    setgroups(&[])?;
    setresgid(group, group, group)?;
    setresuid(user, user, user)?;
    capabilities()?;
    for capability in [NET_ADMIN, NET_RAW] {
        // SAFETY: no memory is passed.
        if unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, capability, 0, 0) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    prctl::set_no_new_privs()?;
    Ok(())
}

/// Permitted, in effect and handed on: the two, and nothing else.
fn capabilities() -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        process: i32,
    }
    #[repr(C)]
    struct Half {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let header = Header { version: VERSION_3, process: 0 };
    let low = Half { effective: KEPT, permitted: KEPT, inheritable: KEPT };
    let halves = [low, Half { effective: 0, permitted: 0, inheritable: 0 }];
    // SAFETY: both are laid out as capset(2) reads them and live for as long as the call takes.
    match unsafe { libc::syscall(libc::SYS_capset, &raw const header, halves.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
