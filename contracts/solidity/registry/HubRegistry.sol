// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.37;

import {Parameters} from "../dao/Parameters.sol";
import {HubWallet} from "../wallet/HubWallet.sol";
import {HubWalletFactory} from "../wallet/HubWalletFactory.sol";
import {Phase} from "../wallet/Phase.sol";

/// @title The whitelist of hubs
/// @notice Knows each hub's wallet that ever registered, what its owner says of the hub, and how far the DAO trusts it.
/// Only wallets of factories that the DAO has admitted can register, so what a wallet can do is known by its code.
contract HubRegistry {
    /// @notice How far the DAO trusts a hub.
    enum Standing {
        /// @dev Registered, and nothing else is known.
        Unconfirmed,
        /// @dev Somebody has checked that the hub is what it says.
        Verified,
        /// @dev The DAO vouches for it.
        Trusted
    }

    /// @notice What a hub's owner says of the hub.
    struct Description {
        /// @dev Its name, of at most 64 bytes.
        string name;
        /// @dev Where devices and buyers reach it, of at most 256 bytes.
        string endpoint;
        /// @dev The SHA-256 of a longer description, which the hub serves.
        bytes32 details;
    }

    /// @notice A hub in the list.
    struct Hub {
        Description description;
        Standing standing;
        /// @dev When it first registered, in seconds since 1970; 0 for one that never did.
        uint40 since;
    }

    uint256 private constant LONGEST_NAME = 64;
    uint256 private constant LONGEST_ENDPOINT = 256;

    /// @notice Names the DAO.
    Parameters public immutable parameters;

    /// @notice Factories whose wallets can register.
    mapping(address factory => bool) public isAdmitted;
    mapping(address wallet => Hub) private _hubs;
    address[] private _wallets;

    /// @notice Wallets of a factory can register from now on, or cannot any more; those that have stay in the list.
    event FactoryAdmitted(address indexed factory, bool isAdmitted);
    /// @notice A wallet has registered for the first time.
    event HubListed(address indexed wallet, address indexed owner, address indexed hub);
    /// @notice A hub's owner says something else of it.
    event HubDescribed(address indexed wallet, string name, string endpoint, bytes32 details);
    /// @notice The DAO trusts a hub more, or less.
    event StandingChanged(address indexed wallet, Standing standing);
    /// @notice A wallet is in another phase.
    event PhaseChanged(address indexed wallet, Phase phase);

    /// @notice Only the DAO may do this.
    error NotTheDao(address caller);
    /// @notice Only the owner of the hub's wallet may do this.
    error NotTheOwner(address caller);
    /// @notice The caller is no wallet of an admitted factory.
    error NotAWallet(address caller);
    /// @notice No such wallet has ever registered.
    error NotListed(address wallet);
    /// @notice A name or an endpoint is too long.
    error TooLong(string what, uint256 length, uint256 longest);

    modifier onlyDao() {
        require(msg.sender == parameters.owner(), NotTheDao(msg.sender));
        _;
    }

    /// @param parameters_ Names the DAO.
    constructor(Parameters parameters_) {
        parameters = parameters_;
    }

    /// @notice Admits a factory, or stops admitting it.
    function admitFactory(HubWalletFactory factory, bool admitted) external onlyDao {
        isAdmitted[address(factory)] = admitted;
        emit FactoryAdmitted(address(factory), admitted);
    }

    /// @notice Says how far the DAO trusts a hub.
    function setStanding(address wallet, Standing standing) external onlyDao {
        Hub storage hub = _listed(wallet);
        hub.standing = standing;
        emit StandingChanged(wallet, standing);
    }

    /// @notice Changes what is said of a hub.
    function describe(HubWallet wallet, Description calldata description) external {
        require(msg.sender == wallet.owner(), NotTheOwner(msg.sender));
        require(
            bytes(description.name).length <= LONGEST_NAME,
            TooLong("name", bytes(description.name).length, LONGEST_NAME)
        );
        require(
            bytes(description.endpoint).length <= LONGEST_ENDPOINT,
            TooLong("endpoint", bytes(description.endpoint).length, LONGEST_ENDPOINT)
        );
        _listed(address(wallet)).description = description;
        emit HubDescribed(address(wallet), description.name, description.endpoint, description.details);
    }

    /// @notice A wallet says which phase it has entered. The first time it is listed by that.
    function enter(Phase phase) external {
        Hub storage hub = _hubs[msg.sender];
        if (hub.since == 0) {
            HubWalletFactory factory = HubWallet(msg.sender).factory();
            require(isAdmitted[address(factory)] && factory.isWallet(msg.sender), NotAWallet(msg.sender));
            hub.since = uint40(block.timestamp);
            _wallets.push(msg.sender);
            emit HubListed(msg.sender, HubWallet(msg.sender).owner(), HubWallet(msg.sender).hub());
        }
        emit PhaseChanged(msg.sender, phase);
    }

    /// @notice All that is known of a hub.
    function hubOf(address wallet) external view returns (Hub memory) {
        return _listed(wallet);
    }

    /// @notice The phase of a listed wallet, from itself: there is no second record that could differ.
    function phaseOf(address wallet) external view returns (Phase) {
        _listed(wallet);
        return HubWallet(wallet).phase();
    }

    /// @notice How many wallets have ever registered.
    function count() external view returns (uint256) {
        return _wallets.length;
    }

    /// @notice The wallets from place `first` on, at most `most` of them, in the order of their first registration.
    function wallets(uint256 first, uint256 most) external view returns (address[] memory page) {
        uint256 length = _wallets.length;
        uint256 end = first >= length ? first : (most < length - first ? first + most : length);
        page = new address[](end - first);
        for (uint256 i = first; i < end; ++i) {
            page[i - first] = _wallets[i];
        }
    }

    function _listed(address wallet) private view returns (Hub storage hub) {
        hub = _hubs[wallet];
        require(hub.since != 0, NotListed(wallet));
    }
}
