//! All contracts, set up on a chain.

use alloy_primitives::{Address, Bytes};
use alloy_sol_types::{SolCall as _, SolConstructor as _};

use crate::bindings::{DealEscrow, HubRegistry, HubWalletFactory, Parameters, SNM};

/// Who is who when the contracts are set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// Gets the whole supply of tokens.
    pub holder: Address,
    /// Sets terms, suspects and bans, gets fees.
    pub dao: Address,
    /// Decides what buyer and hub dispute; the DAO can name another.
    pub court: Address,
}

/// Where the contracts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contracts {
    /// The token.
    pub token: Address,
    /// The DAO's terms.
    pub parameters: Address,
    /// The list of hubs.
    pub registry: Address,
    /// What makes hubs' wallets.
    pub factory: Address,
    /// Deposits, deals and streams.
    pub escrow: Address,
}

/// One contract to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Creation {
    /// Its name.
    pub name: &'static str,
    /// Where it will be.
    pub address: Address,
    /// The data of the transaction that makes it, which goes to nobody.
    pub code: Bytes,
}

/// What sets all contracts up: transactions of one account, whose next nonce is `nonce`, in this order. Afterwards the
/// DAO sends [`admit_factory`] to the registry; no wallet can register before.
#[must_use]
pub fn plan(deployer: Address, nonce: u64, roles: &Roles) -> (Contracts, [Creation; 5]) {
    let at = |step: u64| deployer.create(nonce + step);
    let contracts =
        Contracts { token: at(0), parameters: at(1), registry: at(2), factory: at(3), escrow: at(4) };
    let Contracts { token, parameters, registry, factory, escrow } = contracts;
    let creation = |name, address, code: &Bytes, arguments: Vec<u8>| Creation {
        name,
        address,
        code: [code.as_ref(), &arguments].concat().into(),
    };
    let creations = [
        creation("SNM", token, &SNM::BYTECODE, SNM::constructorCall { holder: roles.holder }.abi_encode()),
        creation(
            "Parameters",
            parameters,
            &Parameters::BYTECODE,
            Parameters::constructorCall { dao: roles.dao }.abi_encode(),
        ),
        creation(
            "HubRegistry",
            registry,
            &HubRegistry::BYTECODE,
            HubRegistry::constructorCall { parameters_: parameters }.abi_encode(),
        ),
        creation(
            "HubWalletFactory",
            factory,
            &HubWalletFactory::BYTECODE,
            HubWalletFactory::constructorCall { token, registry }.abi_encode(),
        ),
        creation(
            "DealEscrow",
            escrow,
            &DealEscrow::BYTECODE,
            DealEscrow::constructorCall {
                token_: token,
                factory_: factory,
                parameters_: parameters,
                court_: roles.court,
            }
            .abi_encode(),
        ),
    ];
    (contracts, creations)
}

/// The DAO's word that wallets of a factory may register.
#[must_use]
pub fn admit_factory(factory: Address) -> Bytes {
    HubRegistry::admitFactoryCall { factory, admitted: true }.abi_encode().into()
}
