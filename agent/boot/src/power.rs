//! How a machine ends: what can be asked of PID 1, and the kernel's call for it.

use std::{fs, io, path::Path, thread, time::Duration};

use nix::{
    sys::{
        reboot::{RebootMode, reboot},
        signal::{Signal, kill},
    },
    unistd::Pid,
};

/// What a restart hands to the firmware (the Pi's `0 tryboot`), if anything.
const ARGUMENT: &str = "/run/sosna/restart-argument";

/// What follows a shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The machine starts again.
    Restart,
    /// It is off.
    Off,
}

/// Asks PID 1 for an orderly restart: the agent is stopped, everything is written and unmounted. `argument` goes to
/// the firmware, which understands it on some boards.
///
/// # Errors
/// When the argument cannot be left, or PID 1 is not ours to signal.
pub fn request_restart(argument: Option<&str>) -> io::Result<()> {
    if let Some(argument) = argument {
        fs::write(ARGUMENT, argument)?;
    }
    Ok(kill(Pid::from_raw(1), Signal::SIGTERM)?)
}

/// Asks PID 1 to turn the machine off in order.
///
/// # Errors
/// When PID 1 is not ours to signal.
pub fn request_off() -> io::Result<()> {
    Ok(kill(Pid::from_raw(1), Signal::SIGUSR2)?)
}

/// Ends the machine at once. What has to be written must have been.
pub fn now(end: End) -> ! {
    nix::unistd::sync();
    if end == End::Restart
        && let Ok(argument) = fs::read_to_string(Path::new(ARGUMENT))
    {
        restart_with(&argument);
    }
    let mode = match end {
        End::Restart => RebootMode::RB_AUTOBOOT,
        End::Off => RebootMode::RB_POWER_OFF,
    };
    let Err(errno) = reboot(mode);
    // A machine without power management gets here. PID 1 must not end: that would be a kernel's panic.
    crate::console::say(&format!("the kernel does not end this machine: {errno}"));
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

/// `LINUX_REBOOT_CMD_RESTART2`; where the firmware does not know the argument it is a plain restart.
fn restart_with(argument: &str) {
    let Ok(argument) = std::ffi::CString::new(argument.trim()) else { return };
    // SAFETY: the three numbers are the call's own, and the text ends with a zero and outlives the call.
    unsafe {
        libc::syscall(
            libc::SYS_reboot,
            libc::LINUX_REBOOT_MAGIC1,
            libc::LINUX_REBOOT_MAGIC2,
            libc::LINUX_REBOOT_CMD_RESTART2,
            argument.as_ptr(),
        );
    }
}
