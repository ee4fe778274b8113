//! How the device stands, for whoever looks: lines on the console when something changes, and a small page for its
//! own network. Must never show a secret, and never act on what it is asked.

mod http;

use std::{
    net::TcpListener,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::console;

/// The page's port.
pub const PORT: u16 = 80;
/// How often the agent is asked how it stands.
const ASKED_EVERY: Duration = Duration::from_secs(20);
const UNTIL_IT_ANSWERS: Duration = Duration::from_secs(3);
/// More remarks than this help nobody.
const MOST_REMARKS: usize = 16;

/// What the agent says of itself; its `main` brings the function that asks it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Health {
    /// The device's address, once it has one.
    pub device: Option<String>,
    /// Its hub, once it is enrolled.
    pub hub: Option<String>,
    /// Whether the hub has welcomed it on a session that stands.
    pub connected: bool,
    /// Assignments that are not over.
    pub tasks: usize,
    /// Which walls stand around each task.
    pub walls: Vec<String>,
    /// Limits that do not hold on this machine, with the reasons.
    pub missing_limits: Vec<String>,
}

/// One network card.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Card {
    /// Its name.
    pub name: String,
    /// Whether a cable or a radio link is there.
    pub link: bool,
    /// Addresses with the length of their network's part.
    pub addresses: Vec<String>,
    /// The way out.
    pub gateway: Option<String>,
    /// The smaller, the better.
    pub cost: u32,
    /// Traffic costs money.
    pub metered: bool,
    /// How a wireless card stands with its network, in words; none for others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wifi: Option<String>,
}

/// Everything that is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// The host name.
    pub hostname: String,
    /// The image's version.
    pub version: String,
    /// The board that it was composed for.
    pub board: String,
    /// The slot that runs.
    pub slot: String,
    /// The kernel that runs.
    pub kernel: String,
    /// How many kernel modules are loaded.
    pub modules: usize,
    /// Whether the boot image is what the slot was composed with: `sound`, `differs: …`; empty until it is known.
    pub boot_image: String,
    /// The data area: ready, or why it is held.
    pub data: String,
    /// Whether it is held, and with it the agent.
    pub held: bool,
    /// The agent's process.
    pub agent: String,
    /// What the agent says; none while it does not answer.
    pub health: Option<Health>,
    /// Network cards.
    pub network: Vec<Card>,
    /// Whether there is a hardware watchdog.
    pub watchdog: bool,
    /// What somebody should know.
    pub remarks: Vec<String>,
}

/// The facts, shared by the threads of PID 1.
#[derive(Debug, Clone, Default)]
pub struct Shared(Arc<Mutex<Facts>>);

// === impl Shared ===

impl Shared {
    /// The facts to read or change; for moments only.
    pub fn facts(&self) -> MutexGuard<'_, Facts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says something on the console and keeps it for the page.
    pub fn remark(&self, text: impl Into<String>) {
        let text = text.into();
        console::say(&text);
        let mut facts = self.facts();
        if facts.remarks.len() < MOST_REMARKS && !facts.remarks.contains(&text) {
            facts.remarks.push(text);
        }
    }
}

// === impl Facts ===

impl Facts {
    /// One line for the console.
    #[must_use]
    pub fn line(&self) -> String {
        let addresses: Vec<_> = self
            .network
            .iter()
            .flat_map(|card| card.addresses.iter().map(|address| format!("{address} on {}", card.name)))
            .collect();
        let mut radios = self.network.iter().filter_map(|card| Some((&card.name, card.wifi.as_ref()?)));
        let network = match radios.next() {
            _ if !addresses.is_empty() => addresses.join(", "),
            Some((name, standing)) => format!("no network ({name}: {standing})"),
            None => "no network".to_owned(),
        };
        let hub = match &self.health {
            _ if self.held => "the agent does not run: the data area is held".to_owned(),
            None if self.agent.is_empty() => "starting".to_owned(),
            None => format!("agent {}", self.agent),
            Some(Health { hub: None, .. }) => "not enrolled".to_owned(),
            Some(Health { hub: Some(hub), connected, tasks, .. }) => {
                let connected = if *connected { "connected" } else { "not connected" };
                format!("hub {hub} {connected}, {tasks} tasks")
            }
        };
        format!("{} {} slot {}: {network}; {hub}", self.hostname, self.version, self.slot)
    }

    /// The page as text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{}\n\n", self.line());
        let health = self.health.clone().unwrap_or_default();
        for (name, value) in [
            ("board", self.board.clone()),
            ("kernel", self.kernel.clone()),
            ("modules", self.modules.to_string()),
            ("boot", if self.boot_image.is_empty() { "unchecked".into() } else { self.boot_image.clone() }),
            ("data", self.data.clone()),
            ("agent", self.agent.clone()),
            ("device", health.device.unwrap_or_else(|| "no identity yet".into())),
            ("watchdog", if self.watchdog { "armed" } else { "none" }.into()),
        ] {
            text.push_str(&format!("{name:10}{value}\n"));
        }
        for card in &self.network {
            let link = if card.link { "up" } else { "no link" };
            let metered = if card.metered { ", metered" } else { "" };
            let way = card.gateway.as_ref().map(|gateway| format!(" by {gateway}")).unwrap_or_default();
            let addresses = card.addresses.join(", ");
            let radio = card.wifi.as_ref().map(|standing| format!("; {standing}")).unwrap_or_default();
            text.push_str(&format!(
                "{:10}{link}{metered} {addresses}{way} (cost {}){radio}\n",
                card.name, card.cost
            ));
        }
        if !health.walls.is_empty() {
            text.push_str(&format!("{:10}{}\n", "enforced", health.walls.join(", ")));
        }
        for limit in &health.missing_limits {
            text.push_str(&format!("missing   {limit}\n"));
        }
        for remark in &self.remarks {
            text.push_str(&format!("note      {remark}\n"));
        }
        text
    }
}

/// Shows the facts until the machine ends. A port that cannot be had costs the page, nothing else.
pub(crate) fn show(shared: &Shared, health: impl Fn() -> Option<Health>) {
    // Both families where there is IPv6.
    let listener = TcpListener::bind(("::", PORT)).or_else(|_| TcpListener::bind(("0.0.0.0", PORT)));
    if let Ok(listener) = listener {
        let shared = shared.clone();
        let serve = move || http::serve(&listener, &shared);
        let _ = thread::Builder::new().name("status-page".into()).stack_size(128 * 1024).spawn(serve);
    }
    let mut shown = String::new();
    let mut asked: Option<Instant> = None;
    loop {
        let every = if shared.facts().health.is_none() { UNTIL_IT_ANSWERS } else { ASKED_EVERY };
        if asked.is_none_or(|asked| asked.elapsed() >= every) {
            let health = health();
            shared.facts().health = health;
            asked = Some(Instant::now());
        }
        let line = shared.facts().line();
        if line != shown {
            console::say(&line);
            shown = line;
        }
        thread::sleep(Duration::from_secs(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_where_the_device_is_and_whose() {
        let mut facts = Facts {
            hostname: "lab-7".into(),
            version: "1.2.3".into(),
            slot: "a".into(),
            agent: "running".into(),
            ..Facts::default()
        };
        assert_eq!(facts.line(), "lab-7 1.2.3 slot a: no network; agent running");
        facts.network =
            vec![Card { name: "eth0".into(), addresses: vec!["10.0.2.15/24".into()], ..Card::default() }];
        facts.health =
            Some(Health { hub: Some("0xAb".into()), connected: true, tasks: 2, ..Health::default() });
        assert_eq!(facts.line(), "lab-7 1.2.3 slot a: 10.0.2.15/24 on eth0; hub 0xAb connected, 2 tasks");
        facts.network[0].addresses.clear();
        facts.network[0].wifi = Some("the network lab is not found".into());
        assert!(facts.line().contains("no network (eth0: the network lab is not found)"), "{}", facts.line());
        assert!(facts.text().contains("(cost 0); the network lab is not found\n"), "{}", facts.text());
        facts.network[0] =
            Card { name: "eth0".into(), addresses: vec!["10.0.2.15/24".into()], ..Card::default() };
        if let Some(health) = &mut facts.health {
            health.walls = vec!["cgroup v2".into(), "seccomp".into()];
            health.missing_limits = vec!["swap limit: none".into()];
        }
        let page = facts.text();
        assert!(page.contains("enforced  cgroup v2, seccomp\nmissing   swap limit: none\n"), "{page}");
        facts.held = true;
        assert!(facts.line().ends_with("the data area is held"));
        assert!(facts.text().contains("eth0      no link 10.0.2.15/24 (cost 0)"), "{}", facts.text());
    }

    #[test]
    fn remarks_are_bounded_and_said_once() {
        let shared = Shared::default();
        for number in 0..100 {
            shared.facts().remarks.push(format!("{}", number / 2));
            shared.facts().remarks.truncate(3);
        }
        shared.remark("0");
        assert_eq!(shared.facts().remarks.len(), 3);
    }
}
