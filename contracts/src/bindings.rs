//! Calls, answers, events and errors of each contract, made from `artifacts/`, which `cargo xtask contracts` writes and
//! `cargo xtask test --stage contracts` compares with what the sources compile to. What they mean is written there, in
//! `solidity/`. `X::BYTECODE` is what deploys `X`, without its constructor's arguments.
#![allow(
    missing_docs,
    missing_debug_implementations,
    reason = "the interface has no words in it; the sources have"
)]

use alloy_sol_types::sol;

sol!(
    #[sol(extra_derives(Debug, PartialEq, Eq))]
    SNM,
    "artifacts/SNM.json"
);
sol!(
    #[sol(extra_derives(Debug, PartialEq, Eq))]
    Parameters,
    "artifacts/Parameters.json"
);
sol!(
    #[sol(extra_derives(Debug, PartialEq, Eq))]
    HubRegistry,
    "artifacts/HubRegistry.json"
);
sol!(
    #[sol(extra_derives(Debug, PartialEq, Eq))]
    HubWalletFactory,
    "artifacts/HubWalletFactory.json"
);
sol!(
    #[sol(extra_derives(Debug, PartialEq, Eq))]
    HubWallet,
    "artifacts/HubWallet.json"
);
sol!(
    #[sol(extra_derives(Debug, PartialEq, Eq))]
    DealEscrow,
    "artifacts/DealEscrow.json"
);
