//! Debian's mosquitto as any MQTT 5 broker: a main listener that demands certificates, a bootstrap listener that does
//! not, and a plain one on loopback for the hub's own part.

use std::{
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

pub struct Broker {
    pub main: u16,
    pub bootstrap: u16,
    pub plain: u16,
    config: PathBuf,
    process: Option<Child>,
}

/// Where mosquitto is, if it is installed.
pub fn program() -> Option<PathBuf> {
    super::find_program("mosquitto")
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Broker {
    pub fn start(folder: &Path, authority: &str, certificate: &str, key: &str) -> Self {
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let ca = write("ca.pem", authority);
        // The authority goes along: a device that knows only its key's hash must see it.
        let chain = write("chain.pem", &format!("{certificate}{authority}"));
        let key = write("server.key", key);
        let (main, bootstrap, plain) = (free_port(), free_port(), free_port());
        let tls = format!("certfile {chain}\nkeyfile {key}\nallow_anonymous true\n");
        let config = format!(
            "per_listener_settings true\nuser root\nmax_packet_size 200000\nlog_type error\nlog_type warning\n\
             listener {main} 127.0.0.1\n{tls}cafile {ca}\nrequire_certificate true\nuse_identity_as_username true\n\
             listener {bootstrap} 127.0.0.1\n{tls}\
             listener {plain} 127.0.0.1\nallow_anonymous true\n"
        );
        let config = PathBuf::from(write("mosquitto.conf", &config));
        let mut broker = Self { main, bootstrap, plain, config, process: None };
        broker.start_again();
        broker
    }

    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub fn start_again(&mut self) {
        let mut command = Command::new(program().unwrap());
        command.arg("-c").arg(&self.config).stdout(Stdio::null());
        self.process = Some(command.spawn().unwrap());
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", self.plain)).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("mosquitto does not listen");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop();
    }
}
