// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.37;

/// @notice What a hub owes a device in all; signed by the hub (EIP-712).
struct Voucher {
    address device;
    uint256 cumulative;
    /// @dev The root of the receipts that it covers.
    bytes32 receipts;
}

/// @notice One device's leaf of a root.
struct Leaf {
    address device;
    uint256 cumulative;
}

/// @notice A voucher and the hub's signature.
struct SignedVoucher {
    Voucher voucher;
    bytes signature;
}

/// @notice That a device wants what it is owed, up to a cumulative amount, to go somewhere; signed by the device.
struct Payout {
    address wallet;
    address device;
    address to;
    uint256 cumulative;
    /// @dev The most that whoever relays it may keep, in units.
    uint256 maxFee;
    /// @dev Seconds since 1970 after which it is void.
    uint256 deadline;
}

/// @notice To whom a device is paid from now on by whoever settles in bulk; signed by the device.
struct Payee {
    address device;
    address payee;
    /// @dev The largest share of a payment that whoever relays it may keep, in thousandths.
    uint256 sharePerMille;
    /// @dev Counts from 0, so that an old one cannot be brought back.
    uint256 nonce;
    uint256 deadline;
}

bytes32 constant VOUCHER_TYPE = keccak256("Voucher(address device,uint256 cumulative,bytes32 receipts)");
bytes32 constant PAYOUT_TYPE =
    keccak256("Payout(address wallet,address device,address to,uint256 cumulative,uint256 maxFee,uint256 deadline)");
bytes32 constant PAYEE_TYPE =
    keccak256("Payee(address device,address payee,uint256 sharePerMille,uint256 nonce,uint256 deadline)");
bytes32 constant DOMAIN_TYPE =
    keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");

/// @notice The EIP-712 domain `Sosna` of a contract on this chain.
function domainSeparator(address verifier) view returns (bytes32) {
    return keccak256(abi.encode(DOMAIN_TYPE, keccak256("Sosna"), keccak256("1"), block.chainid, verifier));
}

function hashVoucher(Voucher memory voucher) pure returns (bytes32) {
    return keccak256(abi.encode(VOUCHER_TYPE, voucher.device, voucher.cumulative, voucher.receipts));
}

function hashPayout(Payout memory payout) pure returns (bytes32) {
    return keccak256(
        abi.encode(
            PAYOUT_TYPE, payout.wallet, payout.device, payout.to, payout.cumulative, payout.maxFee, payout.deadline
        )
    );
}

function hashPayee(Payee memory payee) pure returns (bytes32) {
    return
        keccak256(abi.encode(PAYEE_TYPE, payee.device, payee.payee, payee.sharePerMille, payee.nonce, payee.deadline));
}
