// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {Account, MOST_PAID, MOST_SHARE, account} from "./Account.sol";
import {Books} from "./Books.sol";
import {
    Leaf,
    Payee,
    Payout,
    SignedVoucher,
    Voucher,
    domainSeparator,
    hashPayee,
    hashPayout,
    hashVoucher
} from "./Signed.sol";

/// @title How devices are paid by a wallet
/// @notice By a root that the hub has posted, or by a voucher that it signed; many at once or one by its own signature,
/// whoever brings it. All ways share one record of what each device was paid.
abstract contract Claims is Books {
    using SafeERC20 for IERC20;
    using SafeCast for uint256;

    mapping(address device => Account) internal _accounts;

    /// @notice The nonce that a device's next {Payee} must have.
    mapping(address device => uint256) public payeeNonce;
    /// @notice What the owner has approved for somebody who has not pulled it yet.
    mapping(address miner => uint256) public approved;

    /// @notice A device was paid. What it was paid in all is the sum of these.
    event Paid(address indexed device, address indexed to, uint256 amount);
    /// @notice Whoever relayed a payment kept so much of it.
    event Relayed(address indexed relayer, uint256 fee);
    /// @notice A device has said to whom it is paid.
    event PayeeSet(address indexed device, address indexed payee, uint256 sharePerMille);

    /// @notice The device has this much already.
    error AlreadyPaid(address device, uint256 paid);
    /// @notice No device can be paid so much.
    error TooMuch(uint256 cumulative);
    /// @notice Signed by somebody else, or about something else.
    error WrongSigner(address expected, address signer);
    /// @notice It was signed for another wallet.
    error WrongWallet(address wallet);
    /// @notice It was signed to be used until then.
    error Expired(uint256 deadline);
    /// @notice It has been used, or one before it has not.
    error WrongNonce(uint256 nonce, uint256 expected);
    /// @notice More than the device lets a relayer keep.
    error FeeTooHigh(uint256 fee, uint256 most);
    /// @notice Nobody can be paid there.
    error NoPayee();

    /// @notice What was ever paid to a device, to whom it is paid, and the share that a relayer may keep, in thousandths.
    function accountOf(address device) external view returns (uint256 paid_, address payee, uint256 sharePerMille) {
        Account known = _accounts[device];
        payee = known.payee();
        return (known.paid(), payee == address(0) ? device : payee, known.shareCap());
    }

    /// @notice The EIP-712 domain of what is signed for this wallet.
    function domain() public view returns (bytes32) {
        return domainSeparator(address(this));
    }

    /// @notice Pays many devices by one proof. Anybody may; devices that have it already are passed over.
    /// @param leaves In the order of the proof.
    /// @param count How many leaves the tree has.
    /// @param share The share that the caller wants to keep, in thousandths; each device lets it keep so much at most.
    function settle(
        Leaf[] calldata leaves,
        bytes32[] calldata proof,
        bool[] calldata flags,
        uint256 count,
        uint256 share
    ) external {
        bytes32[] memory hashes = new bytes32[](leaves.length);
        for (uint256 i = 0; i < leaves.length; ++i) {
            hashes[i] = _leaf(leaves[i].device, leaves[i].cumulative);
        }
        Status memory status = _status;
        _requireRoot(status, MerkleProof.processMultiProofCalldata(proof, flags, hashes), count);
        Batch memory batch = _batch(leaves.length);
        for (uint256 i = 0; i < leaves.length; ++i) {
            _add(batch, leaves[i].device, leaves[i].cumulative, share);
        }
        _countPaid(status, batch.sum);
        _send(batch);
    }

    /// @notice Pays many devices by their vouchers. Anybody may; what a root has committed to a device already should be
    /// settled before, in one {multicall}: here all of it is committed anew.
    /// @param share As in {settle}.
    function redeem(SignedVoucher[] calldata vouchers, uint256 share) external {
        Status memory status = _status;
        _requirePaying(status);
        address hub_ = hub();
        bytes32 domain_ = domain();
        Batch memory batch = _batch(vouchers.length);
        for (uint256 i = 0; i < vouchers.length; ++i) {
            Voucher calldata voucher = vouchers[i].voucher;
            _requireSigned(hashVoucher(voucher), domain_, vouchers[i].signature, hub_);
            _add(batch, voucher.device, voucher.cumulative, share);
        }
        _commitPaid(status, batch.sum);
        _send(batch);
    }

    /// @notice Pays a device by its leaf as its own signature says, whoever brings it.
    /// @param signature The device's; empty where it calls itself.
    /// @param fee What the caller keeps.
    function claim(
        Payout calldata payout,
        bytes calldata signature,
        bytes32[] calldata proof,
        uint256 count,
        uint256 fee
    ) external {
        Status memory status = _status;
        bytes32 top = MerkleProof.processProofCalldata(proof, _leaf(payout.device, payout.cumulative));
        _requireRoot(status, top, count);
        uint256 amount = _take(payout, signature, fee);
        _countPaid(status, amount);
        _sendOne(payout, amount, fee);
    }

    /// @notice The same by its voucher.
    /// @param receipts Of the voucher.
    /// @param hubSignature The hub's, of the voucher.
    function claimVoucher(
        Payout calldata payout,
        bytes calldata signature,
        bytes32 receipts,
        bytes calldata hubSignature,
        uint256 fee
    ) external {
        Status memory status = _status;
        _requirePaying(status);
        Voucher memory voucher = Voucher(payout.device, payout.cumulative, receipts);
        _requireSigned(hashVoucher(voucher), domain(), hubSignature, hub());
        uint256 amount = _take(payout, signature, fee);
        _commitPaid(status, amount);
        _sendOne(payout, amount, fee);
    }

    /// @notice Says to whom a device is paid from now on by {settle} and {redeem}.
    function setPayee(Payee calldata payee, bytes calldata signature) external {
        require(block.timestamp <= payee.deadline, Expired(payee.deadline));
        require(payee.payee != address(0), NoPayee());
        require(payee.sharePerMille <= MOST_SHARE, FeeTooHigh(payee.sharePerMille, MOST_SHARE));
        uint256 nonce = payeeNonce[payee.device]++;
        require(payee.nonce == nonce, WrongNonce(payee.nonce, nonce));
        _requireDevice(hashPayee(payee), signature, payee.device);
        Account known = _accounts[payee.device];
        _accounts[payee.device] = account(payee.payee, payee.sharePerMille, known.paid());
        emit PayeeSet(payee.device, payee.payee, payee.sharePerMille);
    }

    /// @notice Pulls what the owner has approved for the caller.
    function pull() external {
        uint256 amount = approved[msg.sender];
        require(amount != 0, AlreadyPaid(msg.sender, 0));
        approved[msg.sender] = 0;
        _pulls.pulled += amount.toUint128();
        emit Paid(msg.sender, msg.sender, amount);
        token.safeTransfer(msg.sender, amount);
    }

    /// @dev Payments that go out together, once all is booked: to one payee after another, each in one transfer.
    struct Batch {
        address[] payees;
        uint256[] amounts;
        uint256 length;
        uint256 fees;
        uint256 sum;
    }

    function _batch(uint256 most) private pure returns (Batch memory batch) {
        batch.payees = new address[](most);
        batch.amounts = new uint256[](most);
    }

    function _add(Batch memory batch, address device, uint256 cumulative, uint256 share) private {
        (Account known, uint256 amount) = _advance(device, cumulative);
        if (amount == 0) {
            return;
        }
        batch.sum += amount;
        uint256 fee = amount * Math.min(share, known.shareCap()) / 1000;
        batch.fees += fee;
        address to = known.payee();
        if (to == address(0)) {
            to = device;
        }
        uint256 length = batch.length;
        if (length != 0 && batch.payees[length - 1] == to) {
            batch.amounts[length - 1] += amount - fee;
        } else {
            (batch.payees[length], batch.amounts[length]) = (to, amount - fee);
            batch.length = length + 1;
        }
        emit Paid(device, to, amount);
    }

    function _send(Batch memory batch) private {
        for (uint256 i = 0; i < batch.length; ++i) {
            token.safeTransfer(batch.payees[i], batch.amounts[i]);
        }
        _sendFee(batch.fees);
    }

    function _sendOne(Payout calldata payout, uint256 amount, uint256 fee) private {
        token.safeTransfer(payout.to, amount - fee);
        _sendFee(fee);
    }

    function _sendFee(uint256 fee) private {
        if (fee != 0) {
            emit Relayed(msg.sender, fee);
            token.safeTransfer(msg.sender, fee);
        }
    }

    /// @dev Counts a device as paid up to `cumulative`; what it still gets for that.
    function _advance(address device, uint256 cumulative) private returns (Account known, uint256 amount) {
        require(cumulative <= MOST_PAID, TooMuch(cumulative));
        known = _accounts[device];
        uint256 before = known.paid();
        if (cumulative > before) {
            amount = cumulative - before;
            _accounts[device] = known.withPaid(cumulative);
        }
    }

    function _take(Payout calldata payout, bytes calldata signature, uint256 fee) private returns (uint256 amount) {
        require(payout.wallet == address(this), WrongWallet(payout.wallet));
        require(block.timestamp <= payout.deadline, Expired(payout.deadline));
        require(payout.to != address(0), NoPayee());
        if (signature.length != 0 || msg.sender != payout.device) {
            _requireDevice(hashPayout(payout), signature, payout.device);
        }
        (, amount) = _advance(payout.device, payout.cumulative);
        require(amount != 0, AlreadyPaid(payout.device, payout.cumulative));
        uint256 most = Math.min(payout.maxFee, amount);
        require(fee <= most, FeeTooHigh(fee, most));
        emit Paid(payout.device, payout.to, amount);
    }

    function _requireDevice(bytes32 structHash, bytes calldata signature, address device) private view {
        _requireSigned(structHash, domain(), signature, device);
    }

    function _requireSigned(bytes32 structHash, bytes32 domain_, bytes calldata signature, address expected)
        private
        pure
    {
        address signer = ECDSA.recover(MessageHashUtils.toTypedDataHash(domain_, structHash), signature);
        require(signer == expected, WrongSigner(expected, signer));
    }

    function _leaf(address device, uint256 cumulative) private pure returns (bytes32) {
        return keccak256(bytes.concat(keccak256(abi.encode(TREE, device, cumulative))));
    }
}
