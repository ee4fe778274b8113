//! Putting together what a payment is about: users who can be paid, with all their computers.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::PathBuf,
};

use sosna_api::boinc::{BoincHost, BoincUser, Credit};
use sosna_protocol::Address;

use super::{BoincError, Payees, export, payees};

/// What it is put together from.
#[derive(Debug)]
pub struct Sources {
    /// The export of hosts.
    pub hosts: PathBuf,
    /// The export of users.
    pub users: PathBuf,
    /// What the operator says.
    pub payees: Payees,
    /// Only users of this team.
    pub team: Option<u64>,
    /// The chain on which is paid.
    pub chain_id: u64,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// Users with somebody to pay, by their numbers.
    pub users: Vec<BoincUser>,
    /// Users with whom something is wrong, in words.
    pub passed_over: BTreeMap<u64, String>,
    /// What the operator named and is not there, in words.
    pub missing: Vec<String>,
}

struct Known {
    credit: Credit,
    payee: Option<Address>,
}

/// Reads the exports.
///
/// # Errors
/// [`BoincError`].
pub fn gather(sources: &Sources) -> Result<Found, BoincError> {
    let Sources { payees, .. } = sources;
    let mut found = Found::default();
    let mut known: HashMap<u64, Known> = HashMap::new();
    let mut unsound: BTreeMap<u64, String> = BTreeMap::new();
    export::users(&sources.users, |user| {
        if sources.team.is_some_and(|team| user.team != Some(team)) {
            return;
        }
        let said = || match payees::named(&user.url, sources.chain_id) {
            Some(Err(why)) => {
                unsound.insert(user.id, why);
                None
            }
            said => said.and_then(Result::ok),
        };
        let payee = payees.users.get(&user.id).map(|payee| payee.0).or_else(said);
        if known.insert(user.id, Known { credit: user.credit, payee }).is_some() {
            found.passed_over.insert(user.id, "stands in the export of users twice".to_owned());
        }
    })?;
    // A user's computers are counted together, so all are needed as soon as one is paid for.
    let mut owners: HashSet<u64> = HashSet::new();
    if !payees.hosts.is_empty() {
        export::hosts(&sources.hosts, |host| {
            if let Some(user) = host.user.filter(|_| payees.hosts.contains_key(&host.id)) {
                owners.insert(user);
            }
        })?;
    }
    let mut by_user: BTreeMap<u64, Vec<BoincHost>> = BTreeMap::new();
    let mut seen: HashMap<u64, u64> = HashMap::new();
    let (mut count, mut shown) = (0_u64, 0_u64);
    export::hosts(&sources.hosts, |host| {
        count += 1;
        let Some(user) = host.user else { return };
        shown += 1;
        let Some(of) = known.get(&user).filter(|of| of.payee.is_some() || owners.contains(&user)) else {
            return;
        };
        if let Some(other) = seen.insert(host.id, user) {
            for user in [user, other] {
                let why = format!("computer {} stands in the export of hosts twice", host.id);
                found.passed_over.insert(user, why);
            }
            return;
        }
        let payee = payees.hosts.get(&host.id).map(|payee| payee.0).or(of.payee);
        by_user.entry(user).or_default().push(BoincHost {
            id: host.id,
            created_s: host.created_s,
            credit: host.credit.into(),
            payee: payee.map(Into::into),
        });
    })?;
    if count > 0 && shown == 0 {
        return Err(BoincError::NoOwners(sources.hosts.clone()));
    }
    // The operator's word comes before the user's.
    for (user, why) in unsound.into_iter().filter(|(user, _)| !owners.contains(user)) {
        found.passed_over.entry(user).or_insert(why);
    }
    for (id, of) in &known {
        let has_none = of.payee.is_some() && of.credit > Credit(0) && !by_user.contains_key(id);
        if has_none && !found.passed_over.contains_key(id) {
            let why = "shows no computers; the project's preferences say whether it may show them";
            found.passed_over.insert(*id, why.to_owned());
        }
    }
    for user in payees.users.keys().filter(|user| !known.contains_key(user)) {
        found.missing.push(format!("user {user} is not in the export of users, or not in the team"));
    }
    for host in payees.hosts.keys().filter(|host| !seen.contains_key(host)) {
        found.missing.push(format!(
            "computer {host} is not in the export of hosts, or its user does not show it or is not in that of users"
        ));
    }
    for (id, hosts) in by_user {
        if let Some(of) = known.get(&id).filter(|_| !found.passed_over.contains_key(&id)) {
            found.users.push(BoincUser { id, credit: of.credit.into(), hosts });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::{fs, path::Path};

    use super::*;

    /// An export that BOINC's own code wrote.
    fn file(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/boinc").join(name)
    }

    fn sources(export: &str, payees: &str) -> Sources {
        Sources {
            hosts: file(export).join("host.gz"),
            users: file(export).join("user.gz"),
            payees: toml::from_str(payees).unwrap(),
            team: None,
            chain_id: 31337,
        }
    }

    fn named(found: &Found) -> Vec<(u64, String, Vec<u64>)> {
        let of = |user: &BoincUser| {
            (user.id, user.credit.to_string(), user.hosts.iter().map(|host| host.id).collect())
        };
        found.users.iter().map(of).collect()
    }

    #[test]
    fn who_says_an_address_is_found_with_all_computers() {
        let first = gather(&sources("first", "")).unwrap();
        let all = [(1, "1500.75".to_owned(), vec![1, 2]), (2, "2000.000001".to_owned(), vec![3])];
        assert_eq!(named(&first), all);
        assert_eq!(first.passed_over.keys().copied().collect::<Vec<_>>(), [3, 5]);
        assert_eq!(first.users[0].hosts[1].created_s, 1_700_000_102);
        let second = gather(&sources("second", "")).unwrap();
        let ids: Vec<_> = named(&second).into_iter().map(|(id, ..)| id).collect();
        assert_eq!(ids, [1, 2, 3, 8]);
        // On another chain one of them has said nothing.
        let elsewhere = gather(&Sources { chain_id: 1, ..sources("first", "") }).unwrap();
        assert!(elsewhere.passed_over[&2].contains("on chain `31337`, and this hub pays on 1"));
        let team = gather(&Sources { team: Some(2), ..sources("first", "") }).unwrap();
        assert!(team.users.is_empty() && team.passed_over.is_empty());
    }

    #[test]
    fn the_operators_word_comes_first() {
        let one = "0x00000000000000000000000000000000000000A7";
        let two = "0x00000000000000000000000000000000000000a9";
        let said = format!("[users]\n5 = \"{one}\"\n1 = \"{one}\"\n[hosts]\n2 = \"{two}\"\n8 = \"{two}\"");
        let found = gather(&sources("first", &said)).unwrap();
        let payee = |user: usize, host: usize| found.users[user].hosts[host].payee.map(|it| it.to_string());
        let ids: Vec<_> = named(&found).into_iter().map(|(id, _, hosts)| (id, hosts)).collect();
        assert_eq!(ids, [(1, vec![1, 2]), (2, vec![3]), (5, vec![6]), (6, vec![7, 8, 9])]);
        let address = |text: &str| Some(text.parse::<sosna_api::text::AddressText>().unwrap().to_string());
        assert_eq!((payee(0, 0), payee(0, 1)), (address(one), address(two)));
        assert_eq!((payee(3, 0), payee(3, 1), payee(3, 2)), (None, address(two), None));
        assert_eq!(found.passed_over.keys().copied().collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn whoever_stands_there_twice_is_passed_over_and_no_detail_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let mut sources = sources("first", "");
        let host = |id: u64, user: u64| {
            format!("<host><id>{id}</id><userid>{user}</userid><total_credit>1.0</total_credit></host>")
        };
        sources.hosts = folder.path().join("host.xml");
        fs::write(&sources.hosts, format!("<hosts>{}{}</hosts>", host(1, 1), host(1, 2))).unwrap();
        let found = gather(&sources).unwrap();
        assert!(found.users.is_empty());
        assert!(found.passed_over[&1].contains("computer 1 stands in the export of hosts twice"));
        assert!(found.passed_over[&2].contains("twice"));
        let bare = "<hosts><host><id>1</id><total_credit>1.0</total_credit></host></hosts>";
        fs::write(&sources.hosts, bare).unwrap();
        assert!(gather(&sources).unwrap_err().to_string().contains("without `<detail/>`"));
    }
}
