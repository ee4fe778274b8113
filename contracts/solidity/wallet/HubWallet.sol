// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {Multicall} from "@openzeppelin/contracts/utils/Multicall.sol";

import {Terms} from "../dao/Terms.sol";
import {HubRegistry} from "../registry/HubRegistry.sol";
import {Books} from "./Books.sol";
import {Claims} from "./Claims.sol";
import {HubWalletFactory} from "./HubWalletFactory.sol";
import {Phase} from "./Phase.sol";

/// @title A hub's wallet
/// @notice Holds what a hub pays its devices with, and is what they can trust without trusting the hub.
///
/// What a hub owes a device is one number that only grows. It is committed to on the chain by a root over all devices'
/// numbers (a period's), by a voucher that the hub signed and somebody redeems, or by a transfer of the owner's. What is
/// committed is the devices': no owner can take it, and the DAO only what nobody has claimed for long after a ban. It is
/// claimed in any phase, and all three ways share one record of what was paid, so that nothing is paid twice. Besides,
/// the hub keeps a share of what it commits locked until payday, of which the DAO then gets its fee.
///
/// Invariants: the balance covers `frozen + locked + committed - paid`, until claims lapse after a ban; what each device
/// was paid only grows, and so does `committed`, but for a root that a suspicion voids; the sum of what was paid never
/// exceeds `committed`; phases change only as named in {Phase}.
contract HubWallet is Claims, Multicall {
    using SafeERC20 for IERC20;
    using SafeCast for uint256;

    /// @notice Where this wallet registers.
    HubRegistry public immutable registry;
    /// @notice Who made it.
    HubWalletFactory public immutable factory;

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
    /// @notice The owner has approved a payment, which the miner may pull.
    event Approved(address indexed miner, uint256 amount);
    /// @notice A period is over.
    /// @param fee What the DAO got of what was locked.
    event Payday(uint256 unlocked, uint256 fee);
    /// @notice The owner has taken tokens out.
    event Withdrawn(address indexed to, uint256 amount);
    /// @notice The DAO has taken what no device was promised.
    event Expropriated(uint256 amount);

    /// @notice Only this wallet's owner may do this.
    error NotTheOwner(address caller);
    /// @notice Only this wallet's owner or its hub may do this.
    error NotTheHub(address caller);
    /// @notice Only the DAO may do this.
    error NotTheDao(address caller);
    /// @notice Too early.
    /// @param until Seconds since 1970.
    error TooEarly(uint256 until);
    /// @notice The total of a root is less than what was paid.
    error TotalTooSmall(uint256 total, uint256 paid);

    modifier onlyOwner() {
        require(msg.sender == owner(), NotTheOwner(msg.sender));
        _;
    }

    modifier onlyDao() {
        require(msg.sender == dao(), NotTheDao(msg.sender));
        _;
    }

    /// @dev Of the code that all wallets share; a wallet's own state begins as all zero: created.
    constructor(IERC20 token_, HubRegistry registry_, HubWalletFactory factory_) Books(token_) {
        registry = registry_;
        factory = factory_;
        // Nobody's wallet: it can never register.
        _status.phase = Phase.Punished;
    }

    /// @notice The DAO.
    function dao() public view returns (address) {
        return registry.parameters().owner();
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

    function _entered(Phase entered) private {
        emit PhaseChanged(entered);
        registry.enter(entered);
    }
}
