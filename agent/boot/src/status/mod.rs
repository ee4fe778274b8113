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
const UNTIL_IT_IS_WELL: Duration = Duration::from_secs(3);
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
    /// Why it is not connected, or not even enrolled, once that was tried in vain.
    pub trouble: Option<String>,
    /// Assignments that are not over.
    pub tasks: usize,
    /// Which walls stand around each task.
    pub walls: Vec<String>,
    /// Limits that do not hold on this machine, with the reasons.
    pub missing_limits: Vec<String>,
    /// How many of them have a result that is to be delivered.
    pub results: usize,
    /// Bytes of memory that the agent's process takes (PSS).
    pub memory: Option<u64>,
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
    /// Nobody answers DHCP.
    pub unanswered: bool,
}

/// When the device was how far, in milliseconds since its kernel started; none before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Times {
    /// PID 1 began: the first stage.
    pub began: Option<u64>,
    /// The slot's program took over from it.
    pub system: Option<u64>,
    /// There is an address and a way out.
    pub network: Option<u64>,
    /// The agent is enrolled: just now, or found that it is.
    pub enrolled: Option<u64>,
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
    /// Whether every card that there is has had the time to appear, and to notice its cable.
    pub has_settled: bool,
    /// How much is left on a data area that is full; empty while there is room.
    pub full: String,
    /// Whether there is a hardware watchdog.
    pub watchdog: bool,
    /// How quickly it came up.
    pub times: Times,
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
        let hub = match &self.health {
            _ if self.held => "the agent does not run: the data area is held".to_owned(),
            None if self.agent.is_empty() => "starting".to_owned(),
            None => format!("agent {}", self.agent),
            Some(Health { hub: None, trouble, .. }) => format!("not enrolled{}", because(trouble)),
            Some(Health { hub: Some(hub), connected, trouble, tasks, results, .. }) => {
                let connected = if *connected { "connected" } else { "not connected" };
                let results = match results {
                    0 => String::new(),
                    1 => ", 1 result to be delivered".to_owned(),
                    many => format!(", {many} results to be delivered"),
                };
                format!("hub {hub} {connected}, {tasks} tasks{results}{}", because(trouble))
            }
        };
        let full = if self.full.is_empty() { String::new() } else { format!("; {}", self.full) };
        format!("{} {} slot {}: {}; {hub}{full}", self.hostname, self.version, self.slot, self.way_out())
    }

    /// Where the device is in its network, or why it is in none.
    fn way_out(&self) -> String {
        let addresses: Vec<_> = self
            .network
            .iter()
            .flat_map(|card| card.addresses.iter().map(|address| format!("{address} on {}", card.name)))
            .collect();
        if !addresses.is_empty() {
            return addresses.join(", ");
        }
        let silent = self.network.iter().find(|card| card.unanswered);
        let radio = self.network.iter().find_map(|card| Some((&card.name, card.wifi.as_ref()?)));
        let names: Vec<_> = self.network.iter().map(|card| card.name.as_str()).collect();
        match (silent, radio) {
            (Some(card), _) => format!("no network, nobody answers DHCP on {}", card.name),
            (None, Some((name, standing))) => format!("no network ({name}: {standing})"),
            _ if !self.has_settled => "no network".to_owned(),
            _ if names.is_empty() => "no network, there is no card for it".to_owned(),
            _ if self.network.iter().all(|card| !card.link) => {
                format!("no network, no cable in {}", names.join(", "))
            }
            _ => "no network".to_owned(),
        }
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
        let times = [self.times.system, self.times.network, self.times.enrolled].map(seconds);
        let [system, network, enrolled] = times;
        text.push_str(&format!("start     system {system}, network {network}, enrolled {enrolled}\n"));
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

fn seconds(ms: Option<u64>) -> String {
    ms.map_or_else(|| "not yet".to_owned(), |ms| format!("{}.{:03} s", ms / 1000, ms % 1000))
}

fn because(trouble: &Option<String>) -> String {
    trouble.as_ref().map(|trouble| format!(": {trouble}")).unwrap_or_default()
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
        let is_well = shared.facts().health.as_ref().is_some_and(|health| health.connected);
        let every = if is_well { ASKED_EVERY } else { UNTIL_IT_IS_WELL };
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
    #![allow(clippy::unwrap_used, reason = "tests")]
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
        facts.health.as_mut().unwrap().connected = false;
        facts.health.as_mut().unwrap().results = 1;
        facts.health.as_mut().unwrap().trouble = Some("it does not answer".into());
        facts.full = "the data area is full".into();
        assert!(
            facts.line().ends_with(
                "; hub 0xAb not connected, 2 tasks, 1 result to be delivered: it does not answer; the data area is full"
            ),
            "{}",
            facts.line()
        );
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
        facts.full.clear();
        assert!(facts.line().ends_with("the data area is held"));
        assert!(facts.text().contains("eth0      no link 10.0.2.15/24 (cost 0)"), "{}", facts.text());
    }

    #[test]
    fn why_there_is_no_network_is_said_once_it_is_known() {
        let mut facts = Facts::default();
        let card = Card { name: "eth0".into(), ..Card::default() };
        assert_eq!(facts.way_out(), "no network");
        facts.has_settled = true;
        assert_eq!(facts.way_out(), "no network, there is no card for it");
        facts.network = vec![card.clone(), Card { name: "eth1".into(), ..Card::default() }];
        assert_eq!(facts.way_out(), "no network, no cable in eth0, eth1");
        facts.network = vec![Card { link: true, ..card.clone() }];
        assert_eq!(facts.way_out(), "no network");
        facts.network = vec![Card { link: true, unanswered: true, ..card }];
        assert_eq!(facts.way_out(), "no network, nobody answers DHCP on eth0");
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
