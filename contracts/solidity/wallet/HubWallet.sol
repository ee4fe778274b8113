// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.37;

import {Clones} from "@openzeppelin/contracts/proxy/Clones.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {Multicall} from "@openzeppelin/contracts/utils/Multicall.sol";

import {Parameters} from "../dao/Parameters.sol";
import {Terms} from "../dao/Terms.sol";
import {HubRegistry} from "../registry/HubRegistry.sol";
import {Account, MOST_PAID, MOST_SHARE, account} from "./Account.sol";
import {HubWalletFactory} from "./HubWalletFactory.sol";
import {Phase} from "./Phase.sol";
import {Payee, Payout, Voucher, domainSeparator, hashPayee, hashPayout, hashVoucher} from "./Signed.sol";

/// @title A hub's wallet
/// @notice Holds what a hub pays its devices with, and is what they can trust without trusting the hub.
///
/// What a hub owes a device is one number that only grows. It is committed to on the chain by a root over all devices'
/// numbers (a period's), by a voucher that the hub signed and somebody redeems, or by a transfer of the owner's. What is
/// committed is the devices': no owner can take it, and the DAO only what nobody has claimed for long after a ban. It is
/// claimed in any phase, and all three ways share one record of what was paid, so that nothing is paid twice. Besides, the hub keeps a share of what it commits locked until
/// payday, of which the DAO then gets its fee.
///
/// Invariants: the balance covers `frozen + locked + committed - paid`, until claims lapse after a ban; what each device
/// was paid only grows, and so does `committed`, but for a root that a suspicion voids; the sum of what was paid never exceeds `committed`; phases change only as named in {Phase}.
contract HubWallet is Multicall {
    using SafeERC20 for IERC20;
    using SafeCast for uint256;

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

    /// @dev What is read or written with every root, in one word.
    struct Status {
        Phase phase;
        // Which of the two roots is the newest.
        uint8 newest;
        // When the newest can be claimed by; the other can.
        uint40 activeAt;
        uint16 activationHours;
        uint8 lockPercent;
        // What the newest root has added to `committed`.
        uint96 added;
        uint80 frozen;
    }

    /// @dev Of all devices together, in one word.
    struct Sums {
        uint128 committed;
        uint128 paid;
    }

    /// @dev Of the whitepaper's payments together, in one word. Apart from the other sums: no root that promises more than
    /// its total can be paid of them.
    struct Pulls {
        uint128 approved;
        uint128 pulled;
    }

    /// @dev From a registration to payday, in one word.
    struct Period {
        // What was committed when it began: the lock is on what came since.
        uint128 committedBefore;
        uint40 since;
        uint32 length;
        uint32 suspectDelay;
        uint16 feePerMille;
    }

    /// @dev The tag of the tree of payouts, in the manner of the protocol's other trees.
    bytes32 private constant TREE = keccak256("sosna payout tree v1");

    /// @notice What devices are paid in.
    IERC20 public immutable token;
    /// @notice Where this wallet registers.
    HubRegistry public immutable registry;
    /// @notice Who made it.
    HubWalletFactory public immutable factory;

    Status private _status;
    Sums private _sums;
    Period private _period;
    bytes32[2] private _roots;
    /// @dev When it was suspected; from a ban on, when it was banned.
    uint40 private _judgedAt;
    Pulls private _pulls;
    mapping(address device => Account) private _accounts;

    /// @notice The nonce that a device's next {Payee} must have.
    mapping(address device => uint256) public payeeNonce;
    /// @notice What the owner has approved for somebody who has not pulled it yet.
    mapping(address miner => uint256) public approved;

    /// @notice The wallet is in another phase.
    event PhaseChanged(Phase phase);
    /// @notice A registration, with the terms that hold until payday.
    event Registered(Terms terms, uint256 payday);
    /// @notice A root was posted.
    /// @param total The sum of all devices' cumulative amounts in it.
    /// @param committed All that is committed from now on.
    event RootPosted(bytes32 indexed root, uint256 total, uint256 committed, uint256 activeAt);
    /// @notice A root that was not active yet is void: the wallet is suspected.
    event RootCancelled(bytes32 indexed root, uint256 released);
    /// @notice A device was paid. What it was paid in all is the sum of these.
    event Paid(address indexed device, address indexed to, uint256 amount);
    /// @notice Whoever relayed a payment kept so much of it.
    event Relayed(address indexed relayer, uint256 fee);
    /// @notice A device has said to whom it is paid.
    event PayeeSet(address indexed device, address indexed payee, uint256 sharePerMille);
    /// @notice The owner has approved a payment, which the miner may pull.
    event Approved(address indexed miner, uint256 amount);
    /// @notice A period is over.
    /// @param fee What the DAO got of what was locked.
    event Payday(uint256 unlocked, uint256 fee);
    /// @notice The owner has taken tokens out.
    event Withdrawn(address indexed to, uint256 amount);
    /// @notice The DAO has taken what no device was promised.
    event Expropriated(uint256 amount);

    /// @notice Not in this phase.
    error WrongPhase(Phase phase);
    /// @notice Only this wallet's owner may do this.
    error NotTheOwner(address caller);
    /// @notice Only this wallet's owner or its hub may do this.
    error NotTheHub(address caller);
    /// @notice Only the DAO may do this.
    error NotTheDao(address caller);
    /// @notice Too early.
    /// @param until Seconds since 1970.
    error TooEarly(uint256 until);
    /// @notice The balance does not cover it.
    /// @param needed What the balance would have to be.
    error Underfunded(uint256 needed, uint256 balance);
    /// @notice The total of a root is less than what was paid.
    error TotalTooSmall(uint256 total, uint256 paid);
    /// @notice The root is empty, or the proof leads to none that can be claimed by.
    error NoSuchRoot(bytes32 root);
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

    modifier onlyOwner() {
        require(msg.sender == owner(), NotTheOwner(msg.sender));
        _;
    }

    modifier onlyDao() {
        require(msg.sender == dao(), NotTheDao(msg.sender));
        _;
    }

    /// @dev Of the code that all wallets share; a wallet's own state begins as all zero: created.
    constructor(IERC20 token_, HubRegistry registry_, HubWalletFactory factory_) {
        token = token_;
        registry = registry_;
        factory = factory_;
        // Nobody's wallet: it can never register.
        _status.phase = Phase.Punished;
    }

    // --- what it is

    /// @notice Who owns it.
    function owner() public view returns (address who) {
        (who,) = _whose();
    }

    /// @notice The address of the hub's key, which signs vouchers.
    function hub() public view returns (address key) {
        (, key) = _whose();
    }

    /// @notice The DAO.
    function dao() public view returns (address) {
        return registry.parameters().owner();
    }

    /// @notice Its phase.
    function phase() external view returns (Phase) {
        return _status.phase;
    }

    /// @notice What is frozen until payday.
    function frozen() external view returns (uint256) {
        return _status.frozen;
    }

    /// @notice What is locked until payday, besides what is committed.
    function locked() public view returns (uint256) {
        return _locked(_status, uint256(_sums.committed) + _pulls.approved);
    }

    /// @notice All that was ever committed to devices, by roots, vouchers and approvals.
    function committed() external view returns (uint256) {
        return uint256(_sums.committed) + _pulls.approved;
    }

    /// @notice All that was ever paid to devices.
    function paid() external view returns (uint256) {
        return uint256(_sums.paid) + _pulls.pulled;
    }

    /// @notice The part of {paid} that roots and vouchers have paid: what {post} wants to know of.
    function settled() external view returns (uint256) {
        return _sums.paid;
    }

    /// @notice What of the balance is neither frozen, locked nor committed: what the hub can commit, with its lock.
    function free() external view returns (uint256) {
        uint256 needed = _needed(_status, _sums);
        uint256 balance = token.balanceOf(address(this));
        return balance < needed ? 0 : balance - needed;
    }

    /// @notice What was ever paid to a device, to whom it is paid, and the share that a relayer may keep, in thousandths.
    function accountOf(address device) external view returns (uint256 paid_, address payee, uint256 sharePerMille) {
        Account known = _accounts[device];
        payee = known.payee();
        return (known.paid(), payee == address(0) ? device : payee, known.shareCap());
    }

    /// @notice The newest root and since when, or from when on, it can be claimed by; and the one before it.
    function roots() external view returns (bytes32 newest, uint256 activeAt, bytes32 before) {
        uint8 place = _status.newest;
        return (_roots[place], _status.activeAt, _roots[1 - place]);
    }

    /// @notice When the period ends; 0 where none has begun.
    function paydayAt() external view returns (uint256) {
        return _status.phase == Phase.Registered ? uint256(_period.since) + _period.length : 0;
    }

    /// @notice When a suspected wallet can be banned, and when what nobody has claimed of a banned one lapses; else 0.
    function judgement() external view returns (uint256) {
        bool isJudged = _status.phase == Phase.Suspected || _status.phase == Phase.Punished;
        return isJudged ? uint256(_judgedAt) + _period.suspectDelay : 0;
    }

    /// @notice The EIP-712 domain of what is signed for this wallet.
    function domain() public view returns (bytes32) {
        return domainSeparator(address(this));
    }

    // --- the owner

    /// @notice Begins a period, with the terms that the DAO asks for now: some is frozen, and the hub can commit.
    function register() external onlyOwner {
        Status memory status = _status;
        require(status.phase == Phase.Created || status.phase == Phase.Idle, WrongPhase(status.phase));
        Terms memory terms = registry.parameters().terms();
        Sums memory sums = _sums;
        (status.phase, status.frozen) = (Phase.Registered, terms.frozen);
        (status.activationHours, status.lockPercent) = (terms.activationHours, terms.lockPercent);
        _status = status;
        _period = Period({
            committedBefore: (uint256(sums.committed) + _pulls.approved).toUint128(),
            since: uint40(block.timestamp),
            length: terms.period,
            suspectDelay: terms.suspectDelay,
            feePerMille: terms.feePerMille
        });
        _requireFunds(status, sums, 0);
        emit Registered(terms, block.timestamp + terms.period);
        _entered(Phase.Registered);
    }

    /// @notice Ends a period that is over: the DAO gets its fee of what was locked, the rest is free.
    function payday() external {
        Status memory status = _status;
        require(status.phase == Phase.Registered, WrongPhase(status.phase));
        address dao_ = dao();
        require(msg.sender == owner() || msg.sender == dao_, NotTheOwner(msg.sender));
        Period memory period = _period;
        uint256 over = uint256(period.since) + period.length;
        require(block.timestamp >= over, TooEarly(over));
        uint256 unlocked = locked();
        uint256 fee = unlocked * period.feePerMille / 1000;
        (_status.phase, _status.frozen) = (Phase.Idle, 0);
        emit Payday(unlocked, fee);
        _entered(Phase.Idle);
        token.safeTransfer(dao_, fee);
    }

    /// @notice Takes tokens out, between periods; never what is committed.
    function withdraw(address to, uint256 amount) external onlyOwner {
        Status memory status = _status;
        require(status.phase == Phase.Idle || status.phase == Phase.Created, WrongPhase(status.phase));
        _requireFunds(status, _sums, amount);
        emit Withdrawn(to, amount);
        token.safeTransfer(to, amount);
    }

    /// @notice The whitepaper's payment (there `transfer`, a name that tokens have): commits an amount to a miner, who pulls
    /// it. What was approved before stays.
    function approvePayout(address miner, uint256 amount) external onlyOwner {
        require(miner != address(0), NoPayee());
        Status memory status = _status;
        require(status.phase == Phase.Registered, WrongPhase(status.phase));
        approved[miner] += amount;
        _pulls.approved += amount.toUint128();
        _requireFunds(status, _sums, 0);
        emit Approved(miner, amount);
    }

    /// @notice Commits to all devices at once, by the root over what each is owed in all.
    /// @dev What devices were paid between the hub's count and this call is in neither: `paidSeen` tells how far it knew.
    /// The sum cannot be checked here. A total that is too small leaves devices unpaid, which they can see before the root
    /// is active; one that is too large binds the hub's own tokens.
    /// @param root The root of the tree of payouts.
    /// @param total The sum of its cumulative amounts.
    /// @param paidSeen What {settled} was when the hub counted.
    function post(bytes32 root, uint256 total, uint256 paidSeen) external {
        (address owner_, address hub_) = _whose();
        require(msg.sender == hub_ || msg.sender == owner_, NotTheHub(msg.sender));
        Status memory status = _status;
        require(status.phase == Phase.Registered, WrongPhase(status.phase));
        // The one before must not be lost before this one can be claimed by.
        require(block.timestamp >= status.activeAt, TooEarly(status.activeAt));
        require(root != 0, NoSuchRoot(root));
        Sums memory sums = _sums;
        require(paidSeen <= sums.paid, TotalTooSmall(sums.paid, paidSeen));
        require(total >= paidSeen, TotalTooSmall(total, paidSeen));
        uint256 all = Math.max(sums.committed, total + (sums.paid - paidSeen));
        status.added = (all - sums.committed).toUint96();
        sums.committed = all.toUint128();
        status.newest = 1 - status.newest;
        status.activeAt = uint40(block.timestamp + uint256(status.activationHours) * 1 hours);
        (_status, _sums) = (status, sums);
        _roots[status.newest] = root;
        _requireFunds(status, sums, 0);
        emit RootPosted(root, total, all, status.activeAt);
    }

    // --- devices, and whoever settles for them

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

    // --- the DAO

    /// @notice Stops everything but what was committed before. A root that is not active yet is void: a hub that is found
    /// cheating in time cannot commit all it has to itself.
    function suspect() external onlyDao {
        Status memory status = _status;
        require(status.phase == Phase.Registered, WrongPhase(status.phase));
        if (block.timestamp < status.activeAt) {
            _cancelNewest(status);
        }
        status.phase = Phase.Suspected;
        _status = status;
        _judgedAt = uint40(block.timestamp);
        _entered(Phase.Suspected);
    }

    /// @notice Ends a suspicion: nothing is frozen or locked any more.
    function rehab() external onlyDao {
        require(_status.phase == Phase.Suspected, WrongPhase(_status.phase));
        (_status.phase, _status.frozen) = (Phase.Idle, 0);
        _entered(Phase.Idle);
    }

    /// @notice Bans a wallet that has been suspected for long enough, and takes what no device was promised.
    function ban() external onlyDao {
        require(_status.phase == Phase.Suspected, WrongPhase(_status.phase));
        uint256 from = uint256(_judgedAt) + _period.suspectDelay;
        require(block.timestamp >= from, TooEarly(from));
        (_status.phase, _status.frozen) = (Phase.Punished, 0);
        _judgedAt = uint40(block.timestamp);
        _entered(Phase.Punished);
        expropriate();
    }

    /// @notice Gives the DAO what has come to a banned wallet since; after as long again as the suspicion lasted, also
    /// what nobody has claimed. Anybody may.
    function expropriate() public {
        Status memory status = _status;
        require(status.phase == Phase.Punished, WrongPhase(status.phase));
        uint256 balance = token.balanceOf(address(this));
        bool hasLapsed = block.timestamp >= uint256(_judgedAt) + _period.suspectDelay;
        uint256 kept = hasLapsed ? 0 : Math.min(_needed(status, _sums), balance);
        emit Expropriated(balance - kept);
        token.safeTransfer(dao(), balance - kept);
    }

    // --- within

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

    /// @dev Adds to what was paid, of what roots have committed.
    function _countPaid(Status memory status, uint256 amount) private {
        Sums memory sums = _sums;
        uint256 all = uint256(sums.paid) + amount;
        sums.paid = all.toUint128();
        if (all > sums.committed) {
            // The hub has promised devices more than the total that it posted.
            _requirePaying(status);
            sums.committed = sums.paid;
            _requireFunds(status, sums, amount);
        }
        _sums = sums;
    }

    /// @dev Commits what is about to be paid by vouchers, out of what is free.
    function _commitPaid(Status memory status, uint256 amount) private {
        Sums memory sums = _sums;
        sums.committed = (uint256(sums.committed) + amount).toUint128();
        sums.paid = (uint256(sums.paid) + amount).toUint128();
        _sums = sums;
        _requireFunds(status, sums, amount);
    }

    function _requirePaying(Status memory status) private pure {
        require(status.phase == Phase.Registered || status.phase == Phase.Idle, WrongPhase(status.phase));
    }

    /// @dev Takes back what a root that is not active yet has added. What was paid meanwhile stays committed.
    function _cancelNewest(Status memory status) private {
        Sums memory sums = _sums;
        uint128 left = uint128(Math.max(sums.committed - status.added, sums.paid));
        emit RootCancelled(_roots[status.newest], sums.committed - left);
        _roots[status.newest] = 0;
        _sums.committed = left;
        uint256 all = uint256(left) + _pulls.approved;
        if (_period.committedBefore > all) {
            // It was posted in the period before.
            _period.committedBefore = uint128(all);
        }
        (status.newest, status.activeAt, status.added) = (1 - status.newest, uint40(block.timestamp), 0);
    }

    /// @dev That the balance covers what it must, and an amount that is about to leave.
    function _requireFunds(Status memory status, Sums memory sums, uint256 leaving) private view {
        uint256 needed = _needed(status, sums) + leaving;
        uint256 balance = token.balanceOf(address(this));
        require(balance >= needed, Underfunded(needed, balance));
    }

    function _needed(Status memory status, Sums memory sums) private view returns (uint256) {
        Pulls memory pulls = _pulls;
        return status.frozen + _locked(status, uint256(sums.committed) + pulls.approved) + (sums.committed - sums.paid)
            + (pulls.approved - pulls.pulled);
    }

    function _locked(Status memory status, uint256 all) private view returns (uint256) {
        if (status.phase != Phase.Registered && status.phase != Phase.Suspected) {
            return 0;
        }
        // From the sum, so that no rounding adds up.
        return Math.ceilDiv((all - _period.committedBefore) * status.lockPercent, 100);
    }

    function _requireRoot(Status memory status, bytes32 top, uint256 count) private view {
        bytes32 root = keccak256(abi.encode(TREE, count, top));
        uint8 newest = status.newest;
        // The same root may have been posted twice.
        bool isActive = (block.timestamp >= status.activeAt && root == _roots[newest]) || root == _roots[1 - newest];
        require(isActive, NoSuchRoot(root));
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

    function _whose() private view returns (address owner_, address hub_) {
        return abi.decode(Clones.fetchCloneArgs(address(this)), (address, address));
    }

    function _entered(Phase entered) private {
        emit PhaseChanged(entered);
        registry.enter(entered);
    }
}
