//! What attacks are to reach: things of the host that a container has no business with.

use std::{
    ffi::CString,
    fs, io,
    net::{TcpListener, UdpSocket},
    os::{
        linux::net::SocketAddrExt,
        unix::{fs::MetadataExt, net::UnixListener},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::SECRET;

/// Laid out once; what an attack destroys is laid out again.
pub(super) struct Bait {
    victim: Child,
    secret: PathBuf,
    handle: String,
    /// None where the kernel keeps no keys.
    key: Option<libc::c_long>,
    segment: i32,
    tcp: TcpListener,
    /// Held open for the attack that connects to it.
    _unix: UnixListener,
    name: String,
    disk: String,
}

impl Bait {
    pub(super) fn lay(folder: &Path) -> Self {
        let secret = folder.join("secret");
        fs::write(&secret, SECRET).unwrap();
        let name = format!("sosna-test-{}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        Self {
            victim: victim(),
            handle: handle(&secret),
            key: key(&name),
            segment: segment(),
            tcp: TcpListener::bind("0.0.0.0:0").unwrap(),
            _unix: UnixListener::bind_addr(&address).unwrap(),
            secret,
            name,
            disk: disk(&folder.join("disk")),
        }
    }

    /// Whether the process that attacks are to end lives, after it was replaced if not.
    pub(super) fn victim_lives(&mut self) -> bool {
        let lives = self.victim.try_wait().unwrap().is_none();
        if !lives {
            self.victim = victim();
        }
        lives
    }

    fn forget_key(&self) {
        const INVALIDATE: libc::c_long = 21;
        if let Some(key) = self.key {
            // SAFETY: no memory is involved.
            unsafe { libc::syscall(libc::SYS_keyctl, INVALIDATE, key) };
        }
    }

    /// As the environment of an attack.
    pub(super) fn environment(&self) -> Vec<String> {
        let port = self.tcp.local_addr().unwrap().port();
        let mut listeners = vec![format!("127.0.0.1:{port}")];
        // Sends nothing: which address this machine has in its network.
        let way =
            UdpSocket::bind("0.0.0.0:0").and_then(|s| s.connect("192.0.2.1:9").and_then(|()| s.local_addr()));
        listeners.extend(way.map(|a| format!("{}:{port}", a.ip())));
        vec![
            format!("VICTIM={}", self.victim.id()),
            format!("SECRET_FILE={}", self.secret.display()),
            format!("HANDLE={}", self.handle),
            format!("KEY={}", self.name),
            format!("SEGMENT={}", self.segment),
            format!("LISTENERS={}", listeners.join(" ")),
            format!("ABSTRACT={}", self.name),
            format!("DISK={}", fs::metadata(&self.disk).unwrap().rdev()),
        ]
    }
}

impl Drop for Bait {
    fn drop(&mut self) {
        let _ = self.victim.kill();
        let _ = self.victim.wait();
        self.forget_key();
        let _ = Command::new("losetup").arg("--detach").arg(&self.disk).status();
        // SAFETY: the segment is our own.
        unsafe { libc::shmctl(self.segment, libc::IPC_RMID, std::ptr::null_mut()) };
    }
}

fn victim() -> Child {
    Command::new("sleep").arg("100000").stdin(Stdio::null()).spawn().unwrap()
}

/// The kernel's handle for a file, as bytes in words: `struct file_handle`.
fn handle(path: &Path) -> String {
    let name = CString::new(path.to_str().unwrap()).unwrap();
    let mut handle = [0_u8; 8 + 128];
    handle[..4].copy_from_slice(&128_u32.to_ne_bytes());
    let mut mount = 0_i32;
    // SAFETY: the kernel writes at most the 128 bytes that the handle's head names, and one number.
    let result = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            libc::AT_FDCWD,
            name.as_ptr(),
            handle.as_mut_ptr(),
            &raw mut mount,
            0,
        )
    };
    assert_eq!(result, 0, "no handle for {}: {}", path.display(), io::Error::last_os_error());
    handle.map(|b| b.to_string()).join(",")
}

/// A key of this user, which all of its processes may read.
fn key(name: &str) -> Option<libc::c_long> {
    const USER_KEYRING: libc::c_long = -4;
    const SET_PERMISSIONS: libc::c_long = 5;
    const POSSESSOR_AND_USER_ALL: libc::c_long = 0x3f3f_0000;
    let (kind, key) = (c"user", CString::new(name).unwrap());
    // SAFETY: the kernel reads the names and as many bytes as are told.
    let key = unsafe {
        libc::syscall(
            libc::SYS_add_key,
            kind.as_ptr(),
            key.as_ptr(),
            SECRET.as_ptr(),
            SECRET.len(),
            USER_KEYRING,
        )
    };
    if key < 0 {
        let error = io::Error::last_os_error();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSYS), "no key: {error}");
        return None;
    }
    // SAFETY: no memory is involved.
    let set = unsafe { libc::syscall(libc::SYS_keyctl, SET_PERMISSIONS, key, POSSESSOR_AND_USER_ALL) };
    assert_eq!(set, 0, "no permissions for the key: {}", io::Error::last_os_error());
    Some(key)
}

/// A disk with the secret on it: a loop device. Returns its name.
fn disk(secret: &Path) -> String {
    fs::write(secret, [SECRET.as_bytes(), &[0; 8192]].concat()).unwrap();
    let output =
        Command::new("losetup").args(["--find", "--show", "--read-only"]).arg(secret).output().unwrap();
    assert!(output.status.success(), "no loop device: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A segment of shared memory that everybody may read.
fn segment() -> i32 {
    // SAFETY: a new segment, which is written within its length and then let go.
    unsafe {
        let id = libc::shmget(libc::IPC_PRIVATE, 4096, libc::IPC_CREAT | 0o666);
        assert!(id >= 0, "no shared memory: {}", io::Error::last_os_error());
        let at = libc::shmat(id, std::ptr::null(), 0);
        assert_ne!(at as isize, -1, "no shared memory: {}", io::Error::last_os_error());
        std::ptr::copy_nonoverlapping(SECRET.as_ptr(), at.cast(), SECRET.len());
        libc::shmdt(at);
        id
    }
}
