//! Measures what it takes to pay 100,000 devices: the tree, its proofs, and gas on a real chain. Prints one line of JSON
//! for each figure.

mod gas;
mod trees;

use std::error::Error;

use sosna_contracts::payouts::{Line, Payouts, PayoutsError};
use sosna_host::identity::IdentityKey;
use sosna_protocol::{Address, Amount, hash::keccak256, identity::Sign as _};
use xtask::bench::Measured;

const DEVICES: usize = 100_000;
/// Devices that are settled together.
const BATCH: usize = 64;
/// What a device earns in a period, in units.
const EARNED: u128 = 10 * 10_u128.pow(18);

type Any = Box<dyn Error>;

/// What everybody is owed after some periods; the first devices have these keys.
fn lines(periods: u128, keys: &[IdentityKey]) -> Vec<Line> {
    let known = keys.iter().map(IdentityKey::address);
    let rest = (keys.len()..DEVICES).map(|number| {
        let hash = keccak256(&[&number.to_be_bytes()]).0;
        let mut address = [0; 20];
        address.copy_from_slice(&hash[..20]);
        Address(address)
    });
    let cumulative = Amount::from_units(periods * EARNED);
    known.chain(rest).map(|device| Line { device, cumulative }).collect()
}

fn tree(periods: u128, keys: &[IdentityKey]) -> Result<Payouts, PayoutsError> {
    Payouts::new(lines(periods, keys))
}

fn print(metric: &str, value: f64, unit: &str, peer: Option<(&str, f64)>) -> Result<(), Any> {
    let mut figure = Measured::new(metric, value, unit);
    if let Some((name, value)) = peer {
        (figure.peer, figure.peer_value) = (Some(name.to_owned()), Some(value));
    }
    println!("{}", serde_json::to_string(&figure)?);
    Ok(())
}

fn main() -> Result<(), Any> {
    let keys: Vec<IdentityKey> = (0..BATCH).map(|_| IdentityKey::generate()).collect();
    trees::measure(lines(1, &keys))?;
    gas::measure(&keys)
}
