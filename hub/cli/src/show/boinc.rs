//! Payments for credit of BOINC projects.

use sosna_api::boinc::{BoincLine, BoincPayment, BoincPaymentDetail, BoincPaymentList, BoincPrice};

use super::{ago, facts, table};

/// Payments, one a line.
#[must_use]
pub fn boinc_payments(list: &BoincPaymentList) -> String {
    if list.payments.is_empty() {
        return "no payments; `sosna boinc pay --help` says how one is made".to_owned();
    }
    let row = |one: &BoincPayment| {
        vec![
            one.id.map_or_else(|| "-".to_owned(), |id| id.to_string()),
            ago(one.at_ms),
            one.project.clone(),
            one.hosts.to_string(),
            one.credit.to_string(),
            one.amount.to_string(),
            price(one.price),
        ]
    };
    let header = ["PAYMENT", "WHEN", "PROJECT", "COMPUTERS", "CREDIT", "SNM", "PRICE"];
    table(&header, list.payments.iter().map(row).collect())
}

/// One, computer by computer.
#[must_use]
pub fn boinc_payment(detail: &BoincPaymentDetail) -> String {
    let BoincPaymentDetail { payment, lines, passed_over, first_seen } = detail;
    let mut text = String::new();
    if !lines.is_empty() {
        let row = |line: &BoincLine| {
            vec![
                line.user.to_string(),
                line.host.to_string(),
                line.credit.to_string(),
                line.amount.to_string(),
                line.payee.map_or_else(|| "nobody".to_owned(), |payee| payee.to_string()),
            ]
        };
        let header = ["USER", "COMPUTER", "CREDIT", "SNM", "TO"];
        text = format!("{}\n\n", table(&header, lines.iter().map(row).collect()));
    }
    let what = match payment.id {
        _ if payment.hosts == 0 => "nothing: nobody who can be paid has new credit".to_owned(),
        Some(_) => format!("{} SNM are owed; the wallet's next root says so", payment.amount),
        None => format!("{} SNM would be; nothing was done", payment.amount),
    };
    let mut rows = vec![
        ("project", payment.project.clone()),
        ("paid", what),
        (
            "for",
            format!("{} credit of {}, {}", payment.credit, computers(payment.hosts), price(payment.price)),
        ),
    ];
    if let Some(id) = payment.id {
        rows.insert(0, ("payment", id.to_string()));
    }
    if *first_seen > 0 {
        let counted = if payment.id.is_some() { "counted" } else { "would be counted" };
        rows.push((
            "first seen",
            format!(
                "{first_seen} users, {counted} from now on; with --history they are paid for what they have"
            ),
        ));
    }
    text.push_str(&facts(&rows));
    if !passed_over.is_empty() {
        let rows = passed_over.iter().map(|one| vec![one.user.to_string(), one.why.clone()]).collect();
        text.push_str("\n\n");
        text.push_str(&table(&["USER PASSED OVER", "WHY"], rows));
    }
    text
}

fn computers(count: u32) -> String {
    if count == 1 { "1 computer".to_owned() } else { format!("{count} computers") }
}

fn price(price: BoincPrice) -> String {
    match price {
        BoincPrice::Rate(rate) => format!("{rate} SNM a credit"),
        BoincPrice::Pot(pot) => format!("{pot} SNM shared"),
    }
}
