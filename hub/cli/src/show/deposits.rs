//! Buyers' deposits.

use sosna_api::deposit::{Deposit, DepositList};

use super::{facts, table, when};

/// Deposits, one a line, and where they are.
#[must_use]
pub fn deposits(list: &DepositList) -> String {
    let place = facts(&[
        ("escrow", format!("{} on chain {}", list.escrow, list.chain_id)),
        ("wallet", list.wallet.to_string()),
        ("ahead", format!("{} SNM of work may go unsigned", list.exposure)),
    ]);
    if list.deposits.is_empty() {
        return format!("{place}\n\nno deposits; `sosna deposits put AMOUNT` makes one");
    }
    let row = |one: &Deposit| {
        vec![
            one.buyer.clone(),
            one.account.to_string(),
            one.deposited.to_string(),
            one.owed.to_string(),
            one.confirmed.to_string(),
            one.claimed.to_string(),
            one.open_ms.map_or_else(|| "-".to_owned(), when),
        ]
    };
    let header = ["BUYER", "ACCOUNT", "DEPOSITED", "OWED", "SIGNED", "PAID", "OPENS"];
    format!("{place}\n\n{}", table(&header, list.deposits.iter().map(row).collect()))
}

/// One.
#[must_use]
pub fn deposit(one: &Deposit) -> String {
    let mut rows = vec![
        ("account", one.account.to_string()),
        ("deposited", format!("{} SNM", one.deposited)),
        ("owed", format!("{} SNM for work until now", one.owed)),
        ("signed for", format!("{} SNM", one.confirmed)),
        ("paid", format!("{} SNM of that to the hub's wallet", one.claimed)),
    ];
    if let Some(redemption) = &one.redemption {
        rows.push(("brought by", format!("0x{}, {}", redemption.hash, redemption.state)));
    }
    if let Some(open) = one.open_ms {
        rows.push(("opens", when(open)));
    }
    facts(&rows)
}
