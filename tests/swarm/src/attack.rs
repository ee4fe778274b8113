//! What somebody could do to a hub's listeners to keep others from using them: each over and over, on many lines at once.
//! For tests of what it does to others; there is no switch for it on the command line.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::v5::{Connect, Packet};
use rustls::{ClientConfig, pki_types::ServerName};
use sosna_host::{tls, token::JoinToken};
use sosna_protocol::{
    Hash,
    topic::{Kind, Topic},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    device::Device,
    enrol::{EnrolError, Enrolled, enrol},
    life::raised,
    link::{Link, LinkError, Target, dial, split},
    population::Population,
};

/// How long a line waits for the hub to end what it began, before it counts as let be.
const PATIENCE: Duration = Duration::from_secs(30);

/// A way to bear down on a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Attack {
    /// Opens a connection to the main listener, and says nothing.
    Silent,
    /// Does TLS on the main listener, without a certificate.
    Anonymous,
    /// Does TLS with a good certificate, and says nothing of MQTT.
    Mute,
    /// Says its CONNECT a byte a second.
    Slow,
    /// Is let in as a device, and sends bytes that mean nothing.
    Garbage,
    /// Is let in as a device, and begins a packet of a quarter of a gigabyte.
    Oversized,
    /// Two that are one device, and take over from each other.
    Takeover,
    /// Is let in as a device, and sends frames that nobody has signed, as fast as they are taken.
    Unsigned,
    /// Asks the bootstrap listener to be enrolled by a secret that it has made up.
    Stranger,
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Connections that were opened.
    pub tried: u64,
    /// Of those, that the hub has ended, or refused.
    pub ended: u64,
    /// Messages that the hub's broker took.
    pub taken: u64,
}

#[derive(Debug, Default)]
struct Counts {
    tried: AtomicU64,
    ended: AtomicU64,
    taken: AtomicU64,
}

/// An attack that goes on.
#[derive(Debug)]
pub struct Assault {
    counts: Arc<Counts>,
    stop: watch::Sender<bool>,
    lines: JoinSet<()>,
}

/// Why an attack cannot begin.
#[derive(Debug, thiserror::Error)]
#[error("an attacker who is to be a device has no certificate")]
pub struct NotEnrolled(#[source] EnrolError);

/// One line of an attack.
struct Line {
    attack: Attack,
    enrolled: Arc<Enrolled>,
    device: Device,
    token: JoinToken,
    counts: Arc<Counts>,
}

// === impl Attack ===

impl Attack {
    /// Every one.
    pub const ALL: [Self; 9] = [
        Self::Silent,
        Self::Anonymous,
        Self::Mute,
        Self::Slow,
        Self::Garbage,
        Self::Oversized,
        Self::Takeover,
        Self::Unsigned,
        Self::Stranger,
    ];
}

// === impl Assault ===

impl Assault {
    /// Attacks the token's hub on so many lines. The attackers are devices of their own, others for each `round`, enrolled by
    /// the token, which must have a use for each line: what they do then is what an enrolled device can do.
    ///
    /// # Errors
    /// [`NotEnrolled`].
    pub async fn start(
        attack: Attack,
        token: &JoinToken,
        lines: usize,
        round: u64,
    ) -> Result<Self, NotEnrolled> {
        let counts = Arc::new(Counts::default());
        let (stop, stopped) = watch::channel(false);
        let population = Population {
            devices: lines,
            seed: 0x0a77_ac00 + attack as u64 + (round << 32),
            ..Population::default()
        };
        let mut all = JoinSet::new();
        for index in 0..lines {
            let mut profile = population.profile(index);
            // Away from the addresses of those who are not to be disturbed.
            profile.index += 30_000;
            let started_ms = u64::try_from(index).unwrap_or_default();
            let mut device = Device::new(
                profile,
                population.key(index),
                token.hub,
                (started_ms, false),
                population.chance(index, "attack"),
            );
            let enrolled = Arc::new(enrol(&mut device, token).await.map_err(NotEnrolled)?);
            let line = Line { attack, enrolled, device, token: token.clone(), counts: Arc::clone(&counts) };
            let mut stopped = stopped.clone();
            all.spawn(async move {
                tokio::select! {
                    () = line.go_on() => {}
                    () = raised(&mut stopped) => {}
                }
            });
        }
        Ok(Self { counts, stop, lines: all })
    }

    /// What has come of it so far.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Outcome {
            tried: of(&self.counts.tried),
            ended: of(&self.counts.ended),
            taken: of(&self.counts.taken),
        }
    }

    /// Ends it.
    pub async fn end(mut self) -> Outcome {
        // Nobody listens where there are no lines.
        let _ = self.stop.send(true);
        while self.lines.join_next().await.is_some() {}
        self.outcome()
    }
}

// === impl Line ===

impl Line {
    async fn go_on(mut self) {
        loop {
            self.counts.tried.fetch_add(1, Ordering::Relaxed);
            // Whatever goes wrong, on whichever side, is an end.
            let is_let_be = matches!(self.once().await, Ok(true));
            if !is_let_be {
                self.counts.ended.fetch_add(1, Ordering::Relaxed);
            }
            // A listener that refuses at once is asked again soon, not in a loop that only wears this machine.
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Once; whether the hub let it be for as long as it was waited for.
    async fn once(&mut self) -> Result<bool, LinkError> {
        match self.attack {
            Attack::Silent => {
                let mut socket = dial(&self.enrolled.main, self.device.profile.index).await?;
                Ok(is_let_be(&mut socket).await)
            }
            Attack::Anonymous => {
                let config = tls::client(self.enrolled.pin(), None, None);
                let mut stream = self.handshake(config.map_err(|_| self.over())?).await?;
                Ok(is_let_be(&mut stream).await)
            }
            Attack::Mute => {
                let mut stream = self.handshake(self.own_tls()?).await?;
                Ok(is_let_be(&mut stream).await)
            }
            Attack::Slow => {
                let mut stream = self.handshake(self.own_tls()?).await?;
                for byte in self.connect() {
                    stream.write_all(&[byte]).await.map_err(|_| self.over())?;
                    stream.flush().await.map_err(|_| self.over())?;
                    sleep(Duration::from_secs(1)).await;
                }
                Ok(is_let_be(&mut stream).await)
            }
            Attack::Garbage => {
                let mut stream = self.let_in().await?;
                let garbage: Vec<u8> = (0..4096).map(|_| self.device.chance().u8(..)).collect();
                // The hub may hang up while it is written.
                let _ = stream.write_all(&garbage).await;
                let _ = stream.flush().await;
                Ok(is_let_be(&mut stream).await)
            }
            Attack::Oversized => {
                let mut stream = self.let_in().await?;
                // A PUBLISH whose remaining length is the largest that MQTT can say (5.0, section 1.5.5).
                let mut begun = vec![0x30, 0xff, 0xff, 0xff, 0x7f];
                begun.resize(64 * 1024, 0);
                let _ = stream.write_all(&begun).await;
                let _ = stream.flush().await;
                Ok(is_let_be(&mut stream).await)
            }
            Attack::Takeover => {
                let first = self.link().await?;
                let second = self.link().await?;
                drop(first);
                drop(second);
                Ok(false)
            }
            Attack::Unsigned => self.unsigned().await,
            Attack::Stranger => {
                let token = JoinToken {
                    secret: Hash(std::array::from_fn(|_| self.device.chance().u8(..))),
                    ..self.token.clone()
                };
                // The token's delegation is over another secret; the hub knows neither.
                Ok(enrol(&mut self.device, &token).await.is_ok())
            }
        }
    }

    /// Frames with nobody's signature, on the device's own topic, so that the broker takes them and the hub must look at
    /// each.
    async fn unsigned(&mut self) -> Result<bool, LinkError> {
        let mut link = self.link().await?;
        let topic = Topic::up(self.device.address(), Kind::Work);
        loop {
            let frame: Vec<u8> = (0..512).map(|_| self.device.chance().u8(..)).collect();
            link.publish(&topic, frame, true).await?;
            link.next().await?;
            self.counts.taken.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn link(&self) -> Result<Link, LinkError> {
        Link::open(Target {
            place: &self.enrolled.main,
            client_id: self.device.address().to_string(),
            tls: Arc::new(self.own_tls()?),
            index: self.device.profile.index,
        })
        .await
    }

    fn own_tls(&self) -> Result<ClientConfig, LinkError> {
        self.enrolled.tls().map_err(|_| self.over())
    }

    fn over(&self) -> LinkError {
        LinkError::Over { address: self.enrolled.main.clone() }
    }

    async fn handshake(&self, config: ClientConfig) -> Result<TlsStream<tokio::net::TcpStream>, LinkError> {
        let socket = dial(&self.enrolled.main, self.device.profile.index).await?;
        let (host, _) = split(&self.enrolled.main)?;
        let name = ServerName::try_from(host.to_owned()).map_err(|_| self.over())?;
        let done = timeout(PATIENCE, TlsConnector::from(Arc::new(config)).connect(name, socket)).await;
        done.map_err(|_| self.over())?.map_err(|_| self.over())
    }

    /// The bytes of a CONNECT as this device.
    fn connect(&self) -> BytesMut {
        let connect = Connect {
            keep_alive: 30,
            client_id: self.device.address().to_string(),
            clean_start: true,
            properties: None,
        };
        let mut bytes = BytesMut::new();
        Packet::Connect(connect, None, None)
            .write(&mut bytes, None)
            .expect("a CONNECT without a will has no limit to pass");
        bytes
    }

    /// A connection on which the broker has let the device in, to be misused.
    async fn let_in(&self) -> Result<TlsStream<tokio::net::TcpStream>, LinkError> {
        let mut stream = self.handshake(self.own_tls()?).await?;
        stream.write_all(&self.connect()).await.map_err(|_| self.over())?;
        stream.flush().await.map_err(|_| self.over())?;
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).await.map_err(|_| self.over())?;
        Ok(stream)
    }
}

/// Reads until the other side hangs up; whether it does not in time.
async fn is_let_be(stream: &mut (impl AsyncRead + Unpin)) -> bool {
    let mut buffer = [0; 1024];
    let end = async { while !matches!(stream.read(&mut buffer).await, Ok(0) | Err(_)) {} };
    timeout(PATIENCE, end).await.is_err()
}
