//! `sosna boinc`.

use sosna_api::{
    boinc::{BoincPassedOver, BoincPaymentDetail, BoincPaymentList, BoincPrice, MAX_HOSTS, NewBoincPayment},
    route,
    wallet::Wallet,
};

use crate::{
    args::{BoincArgs, BoincCommand, BoincPayArgs},
    boinc::{Payees, Sources, gather},
    client::{self, Hub, IdempotencyKey},
    error::Error,
    output, show,
};

pub(super) async fn boinc(hub: &Hub, args: BoincArgs) -> Result<(), Error> {
    match args.command {
        None => {
            let path = client::query(route::BOINC_PAYMENTS, &[("limit", Some(args.limit.to_string()))]);
            let list: BoincPaymentList = hub.get(&path).await?;
            if args.json { output::json(&list) } else { output::line(&show::boinc_payments(&list)) }
        }
        Some(BoincCommand::Show { id, json }) => {
            let payment: BoincPaymentDetail = hub.get(&route::fill(route::BOINC_PAYMENT, id)).await?;
            if json { output::json(&payment) } else { output::line(&show::boinc_payment(&payment)) }
        }
        Some(BoincCommand::Pay(args)) => pay(hub, *args).await,
    }
}

async fn pay(hub: &Hub, args: BoincPayArgs) -> Result<(), Error> {
    let price = match (args.rate, args.pot) {
        (Some(rate), None) => BoincPrice::Rate(rate),
        (None, Some(pot)) => BoincPrice::Pot(pot),
        // clap lets in exactly one.
        _ => return Err(Error::Usage("name either --rate or --pot".to_owned())),
    };
    let payees = args.payees.as_deref().map(Payees::read).transpose()?.unwrap_or_default();
    // A hub without a wallet is told apart before hundreds of megabytes are read.
    let wallet: Wallet = hub.get(route::WALLET).await?;
    let sources =
        Sources { hosts: args.hosts, users: args.users, payees, team: args.team, chain_id: wallet.chain_id };
    let found = gather(&sources)?;
    for missing in &found.missing {
        output::note(&format!("note: {missing}"));
    }
    let count: usize = found.users.iter().map(|user| user.hosts.len()).sum();
    if count > MAX_HOSTS {
        return Err(Error::Refused(format!(
            "{count} computers are more than one payment is about ({MAX_HOSTS}); pay one --team after another"
        )));
    }
    let new = NewBoincPayment {
        project: args.project,
        price,
        most: args.most,
        history: args.history,
        dry_run: args.dry_run,
        users: found.users,
    };
    let mut payment: BoincPaymentDetail =
        hub.create(route::BOINC_PAYMENTS, &new, &IdempotencyKey::random()).await?;
    let left = found.passed_over.into_iter().map(|(user, why)| BoincPassedOver { user, why });
    payment.passed_over.extend(left);
    payment.passed_over.sort_by_key(|one| one.user);
    if args.json { output::json(&payment) } else { output::line(&show::boinc_payment(&payment)) }
}
