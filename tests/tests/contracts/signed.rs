//! What is signed here is what the contracts check, field by field.

use alloy_primitives::{B256, U256};
use alloy_sol_types::SolInterface as _;
use proptest::prelude::*;
use sosna_contracts::{
    address, amount,
    bindings::{DealEscrow, HubWallet, SNM},
    hash,
};
use sosna_protocol::{
    Amount, Hash, Signature,
    eip712::{BuyerVoucher, Domain, Payee, Typed as _, Voucher},
    identity::Sign as _,
};

use crate::scene::{Wallet, chain, key, runner};

/// The most that a wallet can ever pay to one device: 89 bits.
const MOST_PAID: u128 = (1 << 89) - 1;

fn bytes(signature: &Signature) -> alloy_primitives::Bytes {
    signature.0.to_vec().into()
}

#[test]
fn domains_are_the_same() {
    let Some(chain) = chain("domains_are_the_same") else { return };
    let wallet = Wallet::new(&chain, key(3));
    assert_eq!(wallet.ask(&HubWallet::domainCall {}), B256::from(wallet.domain().separator().0));
    let (from, factory) = (chain.people.relayer, chain.contracts.factory);
    let other = Wallet::new(&chain, key(3));
    assert_ne!(wallet.ask(&HubWallet::domainCall {}), other.ask(&HubWallet::domainCall {}));
    assert_eq!(other.ask(&HubWallet::hubCall {}), address(&key(3).address()));
    let mine = sosna_contracts::bindings::HubWalletFactory::walletsOfCall { owner: chain.people.owner };
    assert_eq!(chain.ask(from, factory, &mine).unwrap(), [wallet.at, other.at]);
}

/// Vouchers of any amount and any root of receipts; with one bit of either changed, the signature is somebody else's.
#[test]
fn a_wallet_takes_vouchers_signed_here() {
    let Some(chain) = chain("a_wallet_takes_vouchers_signed_here") else { return };
    let hub = key(4);
    let wallet = Wallet::new(&chain, key(4));
    let units = prop_oneof![1..10_u128.pow(18), 1..1000 * 10_u128.pow(18), any::<u128>()];
    runner(48)
        .run(&(any::<u64>(), units, any::<[u8; 32]>(), 0_usize..256), |(number, units, receipts, bit)| {
            let device = key(number);
            let before = wallet.paid(&device);
            let voucher = Voucher {
                device: device.address(),
                cumulative: Amount::from_units(units),
                receipts: Hash(receipts),
            };
            let signature = voucher.sign(&wallet.domain(), &hub).unwrap();
            let call = |cumulative: U256, receipts: Hash| HubWallet::redeemCall {
                vouchers: vec![HubWallet::SignedVoucher {
                    voucher: HubWallet::Voucher {
                        device: address(&voucher.device),
                        cumulative,
                        receipts: hash(&receipts),
                    },
                    signature: bytes(&signature),
                }],
                share: U256::ZERO,
            };
            let cumulative = amount(voucher.cumulative);
            let mut other = receipts;
            other[bit / 8] ^= 1 << (bit % 8);
            for forged in [call(cumulative, Hash(other)), call(cumulative ^ U256::from(1), Hash(receipts))] {
                prop_assert!(
                    matches!(wallet.refusal(&forged), HubWallet::HubWalletErrors::WrongSigner(_)),
                    "{forged:?}"
                );
            }
            let good = call(cumulative, Hash(receipts));
            if units > MOST_PAID {
                let refused = HubWallet::TooMuch { cumulative };
                prop_assert_eq!(wallet.refusal(&good), HubWallet::HubWalletErrors::TooMuch(refused));
            } else if cumulative > wallet.ask(&HubWallet::freeCall {}) {
                prop_assert!(matches!(wallet.refusal(&good), HubWallet::HubWalletErrors::Underfunded(_)));
            } else {
                match wallet.relay(&good) {
                    Ok(()) => prop_assert_eq!(wallet.paid(&device), before.max(cumulative)),
                    // What is free must also lock a share of it.
                    Err(_) => prop_assert!(matches!(
                        wallet.refusal(&good),
                        HubWallet::HubWalletErrors::Underfunded(_)
                    )),
                }
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_wallet_takes_payees_signed_here() {
    let Some(chain) = chain("a_wallet_takes_payees_signed_here") else { return };
    let wallet = Wallet::new(&chain, key(5));
    let device = key(50);
    let nonce = std::cell::Cell::new(0_u64);
    runner(24)
        .run(&(any::<u64>(), 0_u16..=101, 0_u64..3), |(to, share_per_mille, late)| {
            let payee = Payee {
                device: device.address(),
                payee: key(to).address(),
                share_per_mille,
                nonce: nonce.get() + late,
                deadline: chain.now().unwrap() + 600,
            };
            let signature = payee.sign(&wallet.domain(), &device).unwrap();
            let call = HubWallet::setPayeeCall { payee: (&payee).into(), signature: bytes(&signature) };
            if share_per_mille > 100 {
                let is_refused = matches!(wallet.refusal(&call), HubWallet::HubWalletErrors::FeeTooHigh(_));
                prop_assert!(is_refused);
            } else if late > 0 {
                let is_refused = matches!(wallet.refusal(&call), HubWallet::HubWalletErrors::WrongNonce(_));
                prop_assert!(is_refused);
            } else {
                wallet.relay(&call).unwrap();
                nonce.set(nonce.get() + 1);
                let known = wallet.ask(&HubWallet::accountOfCall { device: address(&payee.device) });
                prop_assert_eq!(known.payee, address(&payee.payee));
                prop_assert_eq!(known.sharePerMille, U256::from(share_per_mille));
                // Its own signature, once more.
                let is_refused = matches!(wallet.refusal(&call), HubWallet::HubWalletErrors::WrongNonce(_));
                prop_assert!(is_refused);
            }
            Ok(())
        })
        .unwrap();
    assert!(nonce.get() > 4, "{}", nonce.get());
}

#[test]
fn the_escrow_takes_buyers_vouchers_signed_here() {
    let Some(chain) = chain("the_escrow_takes_buyers_vouchers_signed_here") else { return };
    let wallet = Wallet::new(&chain, key(6));
    let (escrow, token) = (chain.contracts.escrow, chain.contracts.token);
    let domain = Domain { chain_id: chain.id().unwrap(), wallet: sosna_contracts::from_address(&escrow) };
    runner(24)
        .run(&(any::<u64>(), 1..10_u64.pow(18), 0..10_u64.pow(18)), |(number, first, more)| {
            let buyer = key(number);
            let account = address(&buyer.address());
            chain.adopt(account).unwrap();
            let whole = amount(Amount::from_units(u128::from(first) + u128::from(more)));
            chain.send(chain.people.holder, token, &SNM::transferCall { to: account, value: whole }).unwrap();
            chain.send(account, token, &SNM::approveCall { spender: escrow, value: whole }).unwrap();
            let deposit = DealEscrow::depositCall { wallet: wallet.at, amount: whole };
            chain.send(account, escrow, &deposit).unwrap();
            let earned = wallet.balance(wallet.at);
            for cumulative in [u128::from(first), u128::from(first) + u128::from(more)] {
                let voucher = BuyerVoucher {
                    buyer: buyer.address(),
                    wallet: sosna_contracts::from_address(&wallet.at),
                    cumulative: Amount::from_units(cumulative),
                };
                let redeem = |cumulative: u128| DealEscrow::redeemCall {
                    buyer: account,
                    wallet: wallet.at,
                    cumulative: U256::from(cumulative),
                    signature: bytes(&voucher.sign(&domain, &buyer).unwrap()),
                };
                let owner = chain.people.owner;
                let refused = chain.ask(owner, escrow, &redeem(cumulative + 1)).map(drop).unwrap_err();
                let said = DealEscrow::DealEscrowErrors::abi_decode(&refused.revert().unwrap()).unwrap();
                prop_assert!(matches!(said, DealEscrow::DealEscrowErrors::NotConfirmed(_)));
                if cumulative == u128::from(first) || more > 0 {
                    chain.send(owner, escrow, &redeem(cumulative)).unwrap();
                }
            }
            prop_assert_eq!(wallet.balance(wallet.at) - earned, whole);
            Ok(())
        })
        .unwrap();
}
