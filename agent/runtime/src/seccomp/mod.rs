//! Seccomp of our own: the OCI section becomes BPF (no C library), is cached on disk, and is installed by the
//! container's init just before it executes the program. Must never let a container run whose section was not
//! honoured in full.

mod arch;
mod cache;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod judged;
mod profile;
mod translate;

pub use self::{cache::load_or_compile, profile::default_profile};

use std::io;

use seccompiler::sock_filter;

/// Why a profile cannot be honoured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SeccompError {
    /// No filter can be made for this processor.
    #[error("there are no system call tables for {0} in this build")]
    Architecture(&'static str),
    /// A part of the section that we do not know how to do.
    #[error("{0} is not supported; remove it from the profile")]
    Unsupported(String),
    /// A rule about a call that this build does not know.
    #[error("the system call '{0}' is not known on this architecture, so it cannot be restricted")]
    UnknownSyscall(String),
    /// The profile is not well formed.
    #[error("the profile cannot be read")]
    Profile(#[source] serde_json::Error),
    /// The translation failed.
    #[error("the profile cannot be compiled")]
    Compile(#[source] seccompiler::Error),
}

type Result<T, E = SeccompError> = std::result::Result<T, E>;

/// Filters ready to be installed, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    flags: u32,
    programs: Vec<Vec<sock_filter>>,
}

impl Compiled {
    /// Whether there is nothing to install (a profile that allows all).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.programs.is_empty()
    }

    /// Restricts this thread and all that it becomes, for good. Needs no_new_privs.
    ///
    /// # Errors
    /// What the kernel says; then nothing or only a part is in force and the caller must not go on.
    pub(crate) fn install(&self) -> io::Result<()> {
        let flags = libc::c_ulong::from(self.flags);
        for program in &self.programs {
            let length = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
            let fprog = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
            // SAFETY: `fprog` and the instructions it points to outlive the call; the kernel only reads them, and
            // seccompiler's `sock_filter` is `repr(C)` with the kernel's layout.
            let status = unsafe {
                libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const fprog)
            };
            if status != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }
}
