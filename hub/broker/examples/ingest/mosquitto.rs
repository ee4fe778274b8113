//! Mosquitto with the same certificates and the same demands, to compare with.

use std::{
    env,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use sosna_broker::{Address, CertificateAuthority};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{Failure, publisher};

/// How long it may take to listen.
const START: Duration = Duration::from_secs(10);

/// Where it is, if it is on PATH.
pub(crate) fn program() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join("mosquitto")).find(|file| file.is_file())
}

/// A running one; ended when dropped.
pub(crate) struct Mosquitto {
    process: Child,
    address: SocketAddr,
}

impl Mosquitto {
    pub(crate) async fn start(
        program: &Path,
        folder: &Path,
        ca: &CertificateAuthority,
    ) -> Result<Self, Failure> {
        let identity = ca.issue_server(&[], SystemTime::now(), Duration::from_secs(86_400))?;
        let pem = |label: &str, der: &[u8]| pem::encode(&pem::Pem::new(label, der));
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).map(|()| path.display().to_string())
        };
        let chain: String = identity.chain().iter().map(|one| pem("CERTIFICATE", one)).collect();
        let (certificate, key) = (
            write("chain.pem", chain)?,
            write("server.key", pem("PRIVATE KEY", identity.key().secret_der()))?,
        );
        let authority = write("authority.pem", pem("CERTIFICATE", ca.certificate()))?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        // Limits that would slow it down are off; what a hub demands of devices is on.
        let config = format!(
            "user root\nlog_type error\npersistence false\nset_tcp_nodelay true\nmax_queued_messages 0\n\
             listener {} 127.0.0.1\ncertfile {certificate}\nkeyfile {key}\ncafile {authority}\n\
             require_certificate true\nuse_identity_as_username true\nallow_anonymous true\n",
            address.port()
        );
        let config = write("mosquitto.conf", config)?;
        let process = Command::new(program)
            .args(["-c", &config])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("{} does not start: {error}", program.display()))?;
        let peer = Self { process, address };
        let end = Instant::now() + START;
        while TcpStream::connect(address).await.is_err() {
            if Instant::now() > end {
                return Err("mosquitto does not listen".into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(peer)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Somebody who reads everything, at quality 0, and only counts the bytes: the least that a hub would have to do.
    pub(crate) async fn subscribe(&self, ca: &CertificateAuthority) -> Result<Arc<AtomicU64>, Failure> {
        let mut stream = publisher::connect(ca, Address([0xff; 20]), self.address).await?;
        let filter = b"u/#";
        let mut packet = vec![0x82, 5 + 3, 0, 1, 0, 3];
        packet.extend(filter);
        packet.push(0);
        stream.write_all(&packet).await?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await?;
        if answer != [0x90, 3, 0, 1, 0] {
            return Err(format!("mosquitto refuses a subscription: {answer:?}").into());
        }
        let received = Arc::new(AtomicU64::new(0));
        let count = received.clone();
        tokio::spawn(async move {
            let mut piece = vec![0; 64 * 1024];
            while let Ok(length @ 1..) = stream.read(&mut piece).await {
                count.fetch_add(length as u64, Ordering::Relaxed);
            }
        });
        Ok(received)
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
