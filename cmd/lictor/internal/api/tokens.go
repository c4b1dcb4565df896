package api

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/scidex/lictor/cmd/lictor/client"
)

// Over TCP the kernel says nothing about who calls; a token does. It means what its owner may do, and ends with the time it was made
// for, when it is revoked, or when its owner's account is removed. The file has hashes only: who reads it cannot call.

const (
	tokenPrefix = "lictor_" // so that secret scanners know one when they see it
	// maxTokens is how many tokens a user may have. The oldest log-in gives way to a new one, other tokens do not.
	maxTokens = 64
	// codeTime is how long a log-in link is good for, sessionTime how long the log-in.
	codeTime    = 2 * time.Minute
	sessionTime = 12 * time.Hour
	// longestToken is the longest time that a token may be made for.
	longestToken = 400 * 24 * time.Hour
)

// token is one on record.
type token struct {
	client.Token
	Hash string `json:"sha256"` // of the whole secret, hexadecimal
}

// Tokens are those of all users, in a file.
type Tokens struct {
	path string
	now  func() time.Time

	mu    sync.Mutex
	list  []token
	codes map[string]code // log-in links that nobody has opened yet
}

type code struct {
	uid   uint32
	until time.Time
}

// OpenTokens reads the file at path. One that does not exist is empty.
func OpenTokens(path string) (*Tokens, error) {
	t := &Tokens{path: path, now: time.Now, codes: map[string]code{}}
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return t, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &t.list)
	}
	if err != nil {
		return nil, fmt.Errorf("tokens: %s: %w", path, err)
	}
	return t, nil
}

// save replaces the file in one step. The caller holds t.mu.
func (t *Tokens) save() error {
	b, err := json.Marshal(t.list)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(t.path), ".tokens-") // 0600
	if err != nil {
		return fmt.Errorf("tokens: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), t.path)
	}
	if err != nil {
		return fmt.Errorf("tokens: %w", err)
	}
	return nil
}

func hashOf(secret string) string {
	sum := sha256.Sum256([]byte(secret)) // of 128 random bits and more: nothing to be slow about
	return hex.EncodeToString(sum[:])
}

// Issue makes a token and returns its secret, which is not kept.
func (t *Tokens) Issue(uid uint32, kind, name string, valid time.Duration) (string, client.Token, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	t.list = slices.DeleteFunc(t.list, func(k token) bool { return !now.Before(k.Expires) })
	own := 0
	for _, k := range t.list {
		if k.UID == uid {
			own++
		}
	}
	if own >= maxTokens {
		i := slices.IndexFunc(t.list, func(k token) bool { return k.UID == uid && k.Kind == client.TokenSession })
		if i < 0 || kind != client.TokenSession {
			return "", client.Token{}, NewProblem(http.StatusTooManyRequests, fmt.Sprintf("you have %d tokens; that is the most", own), "lictor token revoke ID")
		}
		t.list = slices.Delete(t.list, i, i+1)
	}
	k := token{Token: client.Token{ID: strings.ToLower(rand.Text()[:10]), UID: uid, Kind: kind, Name: name, Created: now.UTC(), Expires: now.Add(valid).UTC()}}
	secret := tokenPrefix + k.ID + "_" + rand.Text()
	k.Hash = hashOf(secret)
	t.list = append(t.list, k)
	return secret, k.Token, t.save()
}

// Check returns the token of a secret, if it is good.
func (t *Tokens) Check(secret string) (client.Token, bool) {
	rest, ok := strings.CutPrefix(secret, tokenPrefix)
	id, _, found := strings.Cut(rest, "_")
	if !ok || !found {
		return client.Token{}, false
	}
	hash := []byte(hashOf(secret))
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range t.list {
		if k.ID == id {
			return k.Token, subtle.ConstantTimeCompare(hash, []byte(k.Hash)) == 1 && t.now().Before(k.Expires)
		}
	}
	return client.Token{}, false
}

// List returns the tokens of a user, nil for all.
func (t *Tokens) List(uid *uint32) []client.Token {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := []client.Token{}
	for _, k := range t.list {
		if (uid == nil || k.UID == *uid) && t.now().Before(k.Expires) {
			list = append(list, k.Token)
		}
	}
	return list
}

// Revoke ends a token of a user, nil for anybody's.
func (t *Tokens) Revoke(id string, uid *uint32) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.IndexFunc(t.list, func(k token) bool { return k.ID == id && (uid == nil || k.UID == *uid) })
	if i < 0 {
		return NewProblem(http.StatusNotFound, fmt.Sprintf("no token %q", id), "lictor token list")
	}
	t.list = slices.Delete(t.list, i, i+1)
	return t.save()
}

// Invite returns a code that logs its user in once.
func (t *Tokens) Invite(uid uint32) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	for c, to := range t.codes {
		if !now.Before(to.until) || to.uid == uid { // the last one counts
			delete(t.codes, c)
		}
	}
	c := rand.Text()
	t.codes[hashOf(c)] = code{uid, now.Add(codeTime)}
	return c
}

// Redeem turns a code into a session. It is good once.
func (t *Tokens) Redeem(c string) (secret string, k client.Token, err error) {
	t.mu.Lock()
	to, ok := t.codes[hashOf(c)]
	delete(t.codes, hashOf(c))
	ok = ok && t.now().Before(to.until)
	t.mu.Unlock()
	if !ok {
		return "", k, NewProblem(http.StatusForbidden, "this link was used already, or is too old", "lictor dashboard prints another one")
	}
	return t.Issue(to.uid, client.TokenSession, "", sessionTime)
}
