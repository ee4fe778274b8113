//! The tree and its proofs, against the library that the contracts' side comes from.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use alloy_sol_types::SolCall as _;
use serde_json::json;
use sosna_contracts::{
    address,
    payouts::{Line, Payouts},
};
use sosna_protocol::{Hash, hash::keccak256, payout};
use xtask::{exec::Log, paths::Tree, tools::foundry::Foundry};

use crate::{Any, BATCH, DEVICES, print};

const PEER: &str = "OpenZeppelin (node)";

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) fn measure(lines: Vec<Line>) -> Result<(), Any> {
    let before = resident()?;
    let begun = Instant::now();
    let tree = Payouts::new(lines)?;
    let root = tree.root();
    let took = begun.elapsed().as_secs_f64() * 1e3;
    let memory = resident()?.saturating_sub(before) as f64 / 1e6;
    let theirs = openzeppelin(tree.lines())?;
    if theirs.root != root {
        return Err(format!("the roots differ: {root} and {}", theirs.root).into());
    }
    print("tree and root of 100,000 devices", took, "ms", Some((PEER, theirs.tree_ms)))?;
    print("memory of the tree beside its list", memory, "MB", None)?;

    let begun = Instant::now();
    let proofs = (0..DEVICES)
        .step_by(BATCH)
        .map(|first| tree.multiproof(&(first..DEVICES.min(first + BATCH)).collect::<Vec<_>>()))
        .collect::<Result<Vec<_>, _>>()?;
    let took = begun.elapsed().as_secs_f64() * 1e3;
    print("all proofs, 64 devices each", took, "ms", Some((PEER, theirs.proofs_ms)))?;
    let bytes: usize = proofs.iter().map(|one| one.proof.len() * 32 + one.flags.len().div_ceil(8)).sum();
    print("proof for 64 devices, each", bytes as f64 / DEVICES as f64, "bytes", None)?;
    let bytes: usize = proofs.iter().map(|one| one.settle(0).abi_encoded_size()).sum();
    print("call that settles 64 devices, each", bytes as f64 / DEVICES as f64, "bytes", None)?;
    print("calls that settle all", proofs.len() as f64, "transactions", None)?;
    let path = tree.path(DEVICES / 2).ok_or("no such line")?;
    print("proof for one device", (path.len() * 32) as f64, "bytes", None)
}

struct Theirs {
    root: Hash,
    tree_ms: f64,
    proofs_ms: f64,
}

fn openzeppelin(lines: &[Line]) -> Result<Theirs, Any> {
    let tree = Tree::find()?;
    // It comes with the packages for the contracts.
    let mut log = Log::begin(&tree.logs().join("bench-payouts-npm.log"))?;
    Foundry::obtain(&tree, &mut log, &mut |_| {})?;
    let lines: Vec<_> = lines
        .iter()
        .map(|line| json!([address(&line.device).to_string(), line.cumulative.units().to_string()]))
        .collect();
    let tag = format!("0x{}", keccak256(&[b"sosna payout tree v1"]));
    let mut node = Command::new("node")
        .args(["examples/payouts/peer.cjs", &tag, &BATCH.to_string()])
        .current_dir(tree.root().join("contracts"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    node.stdin.take().ok_or("node reads nothing")?.write_all(&serde_json::to_vec(&lines)?)?;
    let said: serde_json::Value = serde_json::from_slice(&node.wait_with_output()?.stdout)?;
    let top: Hash = said["top"].as_str().ok_or("node says no root")?.parse()?;
    Ok(Theirs {
        root: payout::root(u32::try_from(lines.len())?, &top),
        tree_ms: said["tree_ms"].as_f64().ok_or("node says no time")?,
        proofs_ms: said["proofs_ms"].as_f64().ok_or("node says no time")?,
    })
}

/// Memory in use, in bytes.
fn resident() -> Result<u64, Any> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).ok_or("no VmRSS")?.parse::<u64>()? * 1024)
}
