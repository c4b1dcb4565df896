package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Token is what says over TCP who calls.
type Token struct {
	ID      string    `json:"id"`
	UID     uint32    `json:"uid"`
	Kind    string    `json:"kind"`
	Name    string    `json:"name,omitempty"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
}

// The kinds of tokens.
const (
	TokenProgram = "token"   // of a program: in the header Authorization
	TokenSession = "session" // of a browser that was logged in: in a cookie
)

// NewToken is a token that was just made. Its secret is told once.
type NewToken struct {
	Token
	Secret string `json:"secret"`
}

// Login is an address at which a browser is logged in as the caller, once and soon.
type Login struct {
	URL     string    `json:"url"`
	Expires time.Time `json:"expires"`
}

// CreateToken makes a token of the caller's.
func (c *Client) CreateToken(ctx context.Context, name string, valid time.Duration) (*NewToken, error) {
	var t NewToken
	return &t, c.call(ctx, http.MethodPost, "/api/v1/tokens", nil, map[string]any{"name": name, "valid_seconds": valid.Seconds()}, &t)
}

// Tokens are those of the caller; root hears of all.
func (c *Client) Tokens(ctx context.Context) (list []Token, err error) {
	return list, c.call(ctx, http.MethodGet, "/api/v1/tokens", nil, nil, &list)
}

// RevokeToken ends a token.
func (c *Client) RevokeToken(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, "/api/v1/tokens/"+url.PathEscape(id), nil, nil, &struct{}{})
}

// Login returns an address for a browser on the machine of the daemon.
func (c *Client) Login(ctx context.Context) (*Login, error) {
	var l Login
	return &l, c.call(ctx, http.MethodPost, "/api/v1/login", nil, nil, &l)
}
