//! Payments for work that people's computers did for BOINC projects, by the credit that the projects granted.
//!
//! Projects publish each user's and each computer's total credit. What was counted of it is kept here, by user and by
//! computer, and only what comes after it is new: the same export again, an older one, or a later one that says the
//! same, pays nothing. A user's computers are never paid for more than the user's own total has grown: two that are
//! merged into one have their credit added up (`merge_hosts` in BOINC's `html/inc/host.inc`), which is no new work.
//!
//! Who is paid is no device of the hub: roots have a line for each, and whoever settles them pays it.

mod share;

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use sosna_api::{
    Code,
    boinc::{
        BoincHost, BoincLine, BoincPassedOver, BoincPayment, BoincPaymentDetail, BoincPrice, BoincUser,
        Credit, MAX_HOSTS, NewBoincPayment,
    },
};
use sosna_protocol::{Address, Amount, Hash, hash::sha256};
use sosna_store::{Account, Counted, CountedHost, PriceKind, Tx};

use self::share::{New, Overflow};
use crate::{error::HubError, hub::Hub};

/// The most that the wallet can ever pay to one address: 89 bits (`Account.sol`).
const MOST_PAID: Amount = Amount::from_units((1 << 89) - 1);
/// The longest address of a project.
const PROJECT_BYTES: usize = 200;

/// What a payment comes to, before it is booked.
#[derive(Debug, Default)]
struct Plan {
    lines: Vec<BoincLine>,
    users: Vec<(u64, u128)>,
    hosts: Vec<(u64, CountedHost)>,
    passed_over: Vec<BoincPassedOver>,
    first_seen: u32,
    credit: u128,
    amount: Amount,
    paid_hosts: u32,
}

impl Hub {
    /// Pays for new credit, once for each key; with it whether anything was booked now. Where nothing is new, nothing is
    /// kept.
    ///
    /// # Errors
    /// [`Code::NotFound`] where the hub has no wallet on a chain, [`Code::Invalid`] for what no export says,
    /// [`Code::Conflict`] for another project's export, [`Code::NoCredit`] for more than is allowed, [`Code::KeyReused`].
    pub(crate) async fn pay_boinc(
        self: &Arc<Self>,
        key: &str,
        new: NewBoincPayment,
    ) -> Result<(BoincPaymentDetail, bool), HubError> {
        let Some(wallet) = self.chain.as_ref().map(|chain| chain.domain.wallet) else {
            return Err(HubError::refused(
                Code::NotFound,
                "this hub has no wallet on a chain, and nobody outside it can be paid otherwise; see `[chain]` in its settings",
            ));
        };
        let request =
            sha256(&serde_json::to_vec(&new).map_err(|error| HubError::internal("a payment", error))?);
        let project = project(&new.project)?;
        require_sound(&new)?;
        let key = key.to_owned();
        if new.dry_run {
            let now_ms = self.now_ms();
            let planned = self.store.read(move |tx| {
                Box::pin(async move {
                    let plan = plan(tx, wallet, &project, &new).await?;
                    Ok::<_, HubError>(plan.told(None, &project, now_ms, new.price))
                })
            });
            return Ok((planned.await?, false));
        }
        self.change(move |tx, hub| {
            Box::pin(async move {
                if let Some(known) = tx.boinc_payment_by_key(&key).await? {
                    if known.request_hash != request {
                        let detail = "this key made another payment before; use a new key for each";
                        return Err(HubError::refused(Code::KeyReused, detail));
                    }
                    return Ok(((detail(tx, known).await?, false), Vec::new()));
                }
                let plan = plan(tx, wallet, &project, &new).await?;
                if plan.changes_nothing() {
                    return Ok(((plan.told(None, &project, hub.now_ms(), new.price), false), Vec::new()));
                }
                let told = book(tx, &hub, &plan, &project, new.price, &key, request).await?;
                Ok(((told, true), Vec::new()))
            })
        })
        .await
    }
}

/// A payment that was made, with its lines.
pub(crate) async fn detail(
    tx: &mut Tx,
    payment: sosna_store::BoincPayment,
) -> Result<BoincPaymentDetail, HubError> {
    let lines = tx.boinc_lines(payment.id).await?;
    let lines = lines.into_iter().map(|line| BoincLine {
        user: line.owner,
        host: line.host,
        credit: Credit(line.credit).into(),
        payee: line.payee.map(Into::into),
        amount: line.amount.into(),
    });
    Ok(BoincPaymentDetail {
        lines: lines.collect(),
        passed_over: Vec::new(),
        first_seen: payment.first_seen,
        payment: view(payment),
    })
}

/// A payment that was made.
pub(crate) fn view(payment: sosna_store::BoincPayment) -> BoincPayment {
    let amount = payment.price_amount.into();
    BoincPayment {
        id: Some(payment.id),
        project: payment.project,
        at_ms: payment.at_ms,
        price: match payment.price {
            PriceKind::Rate => BoincPrice::Rate(amount),
            PriceKind::Pot => BoincPrice::Pot(amount),
        },
        hosts: payment.hosts,
        credit: Credit(payment.credit).into(),
        amount: payment.amount.into(),
    }
}

/// A project's name in the books: its address without the scheme, which projects change, and the last slash.
fn project(address: &str) -> Result<String, HubError> {
    let wrong = || {
        HubError::refused(
            Code::Invalid,
            format!(
                "`{}` is no project's address; it looks like https://einstein.example/ or einstein.example",
                address.chars().take(PROJECT_BYTES).collect::<String>()
            ),
        )
    };
    let text = address.trim();
    let bare = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    let bare = bare.trim_end_matches('/');
    let (host, path) = bare.split_at(bare.find('/').unwrap_or(bare.len()));
    let good =
        |text: &str, more: &str| text.chars().all(|one| one.is_ascii_alphanumeric() || more.contains(one));
    // Another scheme, or none.
    let is_odd = host.is_empty() || host.ends_with(':') || path.contains("//");
    if is_odd || bare.len() > PROJECT_BYTES || !good(host, ".-:[]") || !good(path, "/._~-%") {
        return Err(wrong());
    }
    Ok(format!("{}{path}", host.to_ascii_lowercase()))
}

/// That the request can be what an export says.
fn require_sound(new: &NewBoincPayment) -> Result<(), HubError> {
    let invalid = |detail: String| Err(HubError::refused(Code::Invalid, detail));
    let (BoincPrice::Rate(price) | BoincPrice::Pot(price)) = new.price;
    if *price == Amount::ZERO {
        return invalid("0 SNM are no payment; name a rate or a pot above 0".to_owned());
    }
    let (mut users, mut hosts) = (HashSet::new(), HashSet::new());
    for user in &new.users {
        if !is_number(user.id) || !users.insert(user.id) {
            return invalid(format!("user {} is named twice, or no project's", user.id));
        }
        for host in &user.hosts {
            if !is_number(host.id) || !is_number(host.created_s) || !hosts.insert(host.id) {
                return invalid(format!("computer {} is named twice, or no project's", host.id));
            }
        }
    }
    if hosts.len() > MAX_HOSTS {
        return invalid(format!(
            "{} computers are more than one payment is about ({MAX_HOSTS}); pay one team after another",
            hosts.len()
        ));
    }
    Ok(())
}

/// BOINC's numbers are positive, and what a store keeps.
fn is_number(value: u64) -> bool {
    (1..=i64::MAX as u64).contains(&value)
}

/// What is new, and what it is paid. Nothing is changed.
async fn plan(tx: &mut Tx, wallet: Address, project: &str, new: &NewBoincPayment) -> Result<Plan, HubError> {
    let counted = tx.boinc_counted(project).await?;
    if counted.hosts.is_empty() {
        require_another(tx, project, new).await?;
    }
    let devices: HashSet<Address> = tx.devices().await?.into_iter().map(|device| device.address).collect();
    let why_not = |payee: Address| {
        if devices.contains(&payee) {
            Some("a device of this hub, which is paid by vouchers")
        } else if payee == Address([0; 20]) {
            // Tokens refuse to go there, and would stop a settlement with all others in it.
            Some("nobody's")
        } else if payee == wallet {
            Some("the hub's own wallet")
        } else {
            None
        }
    };
    let mut plan = Plan::default();
    for user in &new.users {
        let mut wrong = None;
        for host in &user.hosts {
            let known = counted.hosts.get(&host.id);
            if let Some(known) = known.filter(|known| known.created_s != host.created_s) {
                return Err(HubError::refused(
                    Code::Conflict,
                    format!(
                        "computer {} of {project} was first seen at {} (seconds since 1970), and this export says {}: it is \
                         another project's. Nothing was paid",
                        host.id, known.created_s, host.created_s
                    ),
                ));
            }
            let refused = host.payee.and_then(|payee| Some((payee, why_not(*payee)?)));
            wrong = wrong.or(refused);
        }
        if let Some((payee, why)) = wrong {
            let why = format!("{payee} is {why}; another address is needed");
            plan.passed_over.push(BoincPassedOver { user: user.id, why });
            continue;
        }
        plan.add(user, &counted, new.history)?;
    }
    plan.price(new)?;
    Ok(plan)
}

/// That a project of which nothing was counted is not one that is known by another name: its credit would be paid twice.
async fn require_another(tx: &mut Tx, project: &str, new: &NewBoincPayment) -> Result<(), HubError> {
    let hosts: Vec<_> = new.users.iter().flat_map(|user| &user.hosts).collect();
    for other in tx.boinc_projects().await?.iter().filter(|other| *other != project) {
        let counted = tx.boinc_counted(other).await?;
        let is_same = |host: &&&BoincHost| {
            counted.hosts.get(&host.id).is_some_and(|known| known.created_s == host.created_s)
        };
        let same = hosts.iter().filter(is_same).count();
        // Two projects may well have met one computer in the same second.
        if same * 2 > hosts.len() {
            return Err(HubError::refused(
                Code::Conflict,
                format!(
                    "{same} of {} computers of this export are those of {other}, whose credit is counted already: name the \
                     project so. Nothing was paid",
                    hosts.len()
                ),
            ));
        }
    }
    Ok(())
}

// === impl Plan ===

impl Plan {
    /// Adds what is new of a user.
    fn add(&mut self, user: &BoincUser, counted: &Counted, history: bool) -> Result<(), Overflow> {
        let total = user.credit.0.0;
        let before = counted.users.get(&user.id).copied();
        let is_beginning = before.is_none() && !history;
        self.first_seen += u32::from(is_beginning);
        let known = |host: &BoincHost| counted.hosts.get(&host.id).map_or(0, |known| known.credit);
        let (mut new, mut all) = (Vec::with_capacity(user.hosts.len()), 0_u128);
        for host in &user.hosts {
            let credit = host.credit.0.0;
            all = all.checked_add(credit).ok_or(Overflow)?;
            new.push(New { host: host.id, credit: credit.saturating_sub(known(host)) });
        }
        // All that a user has when first seen is counted, and nothing of it paid.
        let (grown, ahead) = match is_beginning {
            true => (0, 0),
            false => (total.saturating_sub(before.unwrap_or_default()), all.saturating_sub(total)),
        };
        let mut sum = 0;
        for (host, share) in user.hosts.iter().zip(share::within(&new, grown, ahead)?) {
            sum += share.paid;
            let counted_host = CountedHost { created_s: host.created_s, credit: known(host) + share.counted };
            if counted.hosts.get(&host.id) != Some(&counted_host) {
                self.hosts.push((host.id, counted_host));
            }
            if share.paid > 0 {
                self.lines.push(BoincLine {
                    user: user.id,
                    host: host.id,
                    credit: Credit(share.paid).into(),
                    payee: host.payee,
                    amount: Amount::ZERO.into(),
                });
            }
        }
        let mark = if is_beginning { total } else { before.unwrap_or_default() + sum };
        if before != Some(mark) {
            self.users.push((user.id, mark));
        }
        Ok(())
    }

    /// Whether all of it was counted before.
    fn changes_nothing(&self) -> bool {
        self.lines.is_empty() && self.users.is_empty() && self.hosts.is_empty()
    }

    /// What each line is paid.
    fn price(&mut self, new: &NewBoincPayment) -> Result<(), HubError> {
        let paid: Vec<&mut BoincLine> = self.lines.iter_mut().filter(|line| line.payee.is_some()).collect();
        self.credit = paid.iter().map(|line| line.credit.0.0).sum();
        let (numerator, denominator) = match new.price {
            BoincPrice::Rate(rate) => (rate.0, Credit::ONE.0),
            BoincPrice::Pot(pot) => (pot.0, self.credit),
        };
        let mut sum = Amount::ZERO;
        for line in paid {
            let units = share::scaled(numerator.units(), line.credit.0.0, denominator)?;
            line.amount = Amount::from_units(units).into();
            sum = sum.checked_add(*line.amount).ok_or(Overflow)?;
            self.paid_hosts += 1;
        }
        self.amount = sum;
        match new.most {
            Some(most) if *most < sum => Err(HubError::refused(
                Code::NoCredit,
                format!("{sum} SNM would be paid, and at most {most} may be: nothing was paid"),
            )),
            _ => Ok(()),
        }
    }

    fn told(&self, id: Option<u64>, project: &str, at_ms: u64, price: BoincPrice) -> BoincPaymentDetail {
        let payment = BoincPayment {
            id,
            project: project.to_owned(),
            at_ms,
            price,
            hosts: self.paid_hosts,
            credit: Credit(self.credit).into(),
            amount: self.amount.into(),
        };
        BoincPaymentDetail {
            payment,
            lines: self.lines.clone(),
            passed_over: self.passed_over.clone(),
            first_seen: self.first_seen,
        }
    }
}

/// Keeps what was counted, and books what is paid: one entry for each address.
async fn book(
    tx: &mut Tx,
    hub: &Hub,
    plan: &Plan,
    project: &str,
    price: BoincPrice,
    key: &str,
    request_hash: Hash,
) -> Result<BoincPaymentDetail, HubError> {
    tx.count_boinc_users(project, &plan.users).await?;
    tx.count_boinc_hosts(project, &plan.hosts).await?;
    let at_ms = hub.now_ms();
    let (kind, price_amount) = match price {
        BoincPrice::Rate(rate) => (PriceKind::Rate, *rate),
        BoincPrice::Pot(pot) => (PriceKind::Pot, *pot),
    };
    let payment = sosna_store::BoincPayment {
        id: 0,
        idempotency: key.to_owned(),
        request_hash,
        project: project.to_owned(),
        at_ms,
        price: kind,
        price_amount,
        hosts: plan.paid_hosts,
        credit: plan.credit,
        amount: plan.amount,
        first_seen: plan.first_seen,
    };
    let lines: Vec<_> = plan
        .lines
        .iter()
        .map(|line| sosna_store::BoincLine {
            owner: line.user,
            host: line.host,
            credit: line.credit.0.0,
            payee: line.payee.map(|payee| payee.0),
            amount: *line.amount,
        })
        .collect();
    let id = tx.put_boinc_payment(&payment, &lines).await?;
    let mut sums: BTreeMap<Address, Amount> = BTreeMap::new();
    for line in &lines {
        if let Some(payee) = line.payee {
            let sum = sums.entry(payee).or_default();
            *sum = sum.checked_add(line.amount).ok_or(Overflow)?;
        }
    }
    let sums: Vec<_> = sums.into_iter().filter(|(_, amount)| *amount > Amount::ZERO).collect();
    let from = Account::Boinc(project.to_owned());
    tx.pay_payees(&format!("boinc:{id}"), &from, "boinc", &sums, at_ms).await?;
    let beyond = tx.payees().await?.into_iter().find(|(_, all)| *all > MOST_PAID);
    if let Some((payee, all)) = beyond {
        let payee = payee.checksummed();
        return Err(HubError::refused(
            Code::Invalid,
            format!("{payee} would be owed {all} SNM in all, more than a wallet can pay; is the rate right?"),
        ));
    }
    tracing::info!(
        project,
        payment = id,
        hosts = plan.paid_hosts,
        "{} SNM are owed for {} credit of a BOINC project",
        plan.amount,
        Credit(plan.credit)
    );
    Ok(plan.told(Some(id), project, at_ms, price))
}

impl From<Overflow> for HubError {
    fn from(_: Overflow) -> Self {
        Self::refused(Code::Invalid, "the payment would be more than there can be; is the rate right?")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_project_is_one_however_it_is_written() {
        for text in [
            "https://Einstein.example/EAH/",
            "http://einstein.example/EAH",
            " einstein.example/EAH//",
            "EINSTEIN.example/EAH",
        ] {
            assert_eq!(project(text).unwrap(), "einstein.example/EAH", "{text}");
        }
        assert_eq!(project("http://127.0.0.1:8080/test").unwrap(), "127.0.0.1:8080/test");
        for text in
            ["", "https://", "/path", "a b", "https://x.example/?a=1", "ftp://x", "x\ny", &"a".repeat(201)]
        {
            assert!(project(text).is_err(), "{text}");
        }
    }
}
