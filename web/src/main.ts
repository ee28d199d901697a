import '@fontsource-variable/inter/wght.css';
import { mount } from 'svelte';
import './styles/tokens.css';
import './styles/base.css';
import App from './App.svelte';
import { still } from './lib/testing';

if (still) document.documentElement.dataset.still = '';

mount(App, { target: document.getElementById('app')! });
